package testenv_test

import (
	"context"
	"fmt"
	"testing"

	"rcpt-milter/testenv"
)

const (
	// crowdSize is the number of contacts that makes a full pass of two pages of at most 1,000
	// objects.
	crowdSize = 1200
	// slowPercent is the share of a processor that dc1 has during a long full pass.
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

// running returns the running pass, which must be a full one.
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

// TestAdditionDuringFullPass: an address that is added during a long full pass is accepted
// before that pass ends.
func TestAdditionDuringFullPass(t *testing.T) {
	e := require(t).in(t, 3*testDeadline)
	domain := e.administrator()
	e.addCrowd(domain)
	_, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	for attempt := range 4 { // a fast machine may end the pass first
		if e.addDuringFullPass(domain, fmt.Sprintf("newcomer%d", attempt)) {
			return
		}
	}
	t.Fatal("no full pass was long enough to add an address meanwhile; make it slower")
}

// addDuringFullPass adds an address during a full pass. It reports whether the address was
// accepted before that pass ended.
func (e *edge) addDuringFullPass(domain *testenv.Domain, name string) bool {
	e.t.Helper()
	before, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	address := name + "@corp.example"
	e.replies(address, 550, "5.1.1")
	e.slow()
	_, err = e.RunMilter(e.ctx, "sync", "--full")
	e.must(err)
	var first *testenv.RunningPass
	e.must(testenv.AwaitNil(e.ctx, poll, func(context.Context) error {
		var err error
		first, err = e.running()
		return err
	}))
	dn, err := domain.AddContact(testenv.Person{Name: name, Mail: address})
	e.must(err)
	e.t.Cleanup(func() { domain.Delete(dn) })
	_, took, err := e.AwaitReply(e.ctx, address, 250)
	e.must(err)
	now, err := e.running()
	during := err == nil && now.Started.Equal(first.Started)
	e.must(e.Throttle(e.ctx, testenv.DC, 0))
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		status, err := e.Status(ctx)
		if err == nil && status.Directories[0].LastFull.Number == before.Directories[0].LastFull.Number {
			err = fmt.Errorf("the full pass has not ended")
		}
		return err
	}))
	e.replies(address, 250, "")
	if during {
		e.t.Logf("accepted %.1f s after the addition, %d objects read of %d", took.Seconds(), now.Seen, crowdSize)
	}
	return during
}
