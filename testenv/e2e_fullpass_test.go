package testenv_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

const (
	// crowdSize is how many contacts make a full pass of two pages of 1,000 objects at most.
	crowdSize = 1200
	// slowPercent is how much of a processor dc1 has while a full pass is to be long.
	slowPercent = 10
)

// addCrowd adds contacts without addresses, and deletes them at the end of the test.
func (e *edge) addCrowd(domain *testenv.Domain) {
	e.t.Helper()
	const name = "Crowd"
	ou := "OU=" + name + "," + testenv.BaseDN
	e.must(domain.DeleteTree(ou)) // of a run that was interrupted
	e.must(domain.AddOU(name, testenv.BaseDN))
	var dns []string
	e.t.Cleanup(func() {
		for _, dn := range append(dns, ou) {
			if err := domain.Delete(dn); err != nil {
				e.t.Fatal(err)
			}
		}
	})
	for i := range crowdSize {
		dn, err := domain.AddContact(testenv.Person{Name: fmt.Sprintf("crowd%04d", i), OU: ou})
		e.must(err)
		dns = append(dns, dn)
	}
}

// slow throttles dc1 for the rest of the test.
func (e *edge) slow() {
	e.t.Helper()
	e.must(e.Throttle(e.ctx, testenv.DC, slowPercent))
	e.t.Cleanup(func() {
		if err := e.Throttle(context.Background(), testenv.DC, 0); err != nil {
			e.t.Error(err)
		}
	})
}

// running returns the pass that is under way, which must be a full one.
func (e *edge) running() (*testenv.RunningPass, error) {
	status, err := e.Status(e.ctx)
	if err != nil {
		return nil, err
	}
	running := status.Directories[0].Running
	if running == nil || running.Kind != "full" {
		return nil, fmt.Errorf("no full pass is under way: %+v", running)
	}
	return running, nil
}

// TestAdditionDuringFullPass: an address that is added while a long full pass reads is
// accepted before that pass has ended.
func TestAdditionDuringFullPass(t *testing.T) {
	e := require(t).in(t, 2*testDeadline)
	domain := e.administrator()
	e.addCrowd(domain)
	before, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.replies("newcomer@corp.example", 550, "5.1.1")
	e.slow()
	_, err = e.RunMilter(e.ctx, "sync", "--full")
	e.must(err)
	var first *testenv.RunningPass
	e.must(testenv.AwaitNil(e.ctx, poll, func(context.Context) error {
		var err error
		first, err = e.running()
		return err
	}))
	if first.Seen > crowdSize {
		t.Fatalf("the full pass has read %d objects before the addition; make it slower", first.Seen)
	}
	dn, err := domain.AddContact(testenv.Person{Name: "newcomer", Mail: "newcomer@corp.example"})
	e.must(err)
	added := time.Now()
	t.Cleanup(func() { domain.Delete(dn) })
	_, took, err := e.AwaitReply(e.ctx, "newcomer@corp.example", 250)
	e.must(err)
	now, err := e.running()
	if err != nil {
		t.Fatalf("the address was accepted %v after it was added, after the full pass: %v", took, err)
	}
	if !now.Started.Equal(first.Started) {
		t.Errorf("the full pass that began at %v was followed by another, begun at %v", first.Started, now.Started)
	}
	t.Logf("accepted %.1f s after the addition, %d objects read of %d", took.Seconds(), now.Seen, crowdSize)
	e.must(e.Throttle(e.ctx, testenv.DC, 0))
	status, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	t.Logf("the full pass ended %.1f s after the addition", time.Since(added).Seconds())
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		if status, err = e.Status(ctx); err == nil && status.Directories[0].LastFull.Number == before.Directories[0].LastFull.Number {
			err = fmt.Errorf("the full pass has not ended")
		}
		return err
	}))
	if full := status.Directories[0].LastFull; full.Result != "ok" || full.Seen < crowdSize {
		t.Errorf("last_full = %+v, want a good pass over more than %d objects", full, crowdSize)
	}
	e.replies("newcomer@corp.example", 250, "")
}
