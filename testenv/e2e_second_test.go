package testenv_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// Tests with two domain controllers. The daemon prefers dc2. A prober asks for every valid
// address all the time.

// second enables these tests. They are slow, because replication takes its time.
var second = flag.Bool("second", false, "run the tests with two domain controllers")

// secondDeadline limits a test once both controllers run.
const secondDeadline = 6 * time.Minute

// equalDeadline limits the time until the index equals the directory.
const equalDeadline = 90 * time.Second

// pair is two domain controllers of one domain, and the daemon that follows dc2.
type pair struct {
	*edge
	dc1, dc2 *testenv.Domain
	made     []string // DNs, removed when the test ends
	gone     []string // addresses without an owner now
}

// requirePair starts what a test needs. The edits apply to the daemon's configuration, in
// which both controllers are candidates.
func requirePair(t *testing.T, edits ...func(string) string) *pair {
	t.Helper()
	if !*second {
		t.Skip("two domain controllers: run it with `go run ./cmd/testenv test ./testenv -run Controller -args " +
			"-second`")
	}
	p := &pair{edge: require(t)}
	p.must(p.StartSecond(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), secondDeadline)
	t.Cleanup(cancel)
	p.ctx = ctx
	p.connect()
	t.Cleanup(p.clean)
	p.replicate()
	p.must(p.Stop(p.ctx, testenv.Milter))
	p.must(p.Configure(p.ctx, append([]func(string) string{
		testenv.Replace("[ldaps://dc1.corp.example]", "[ldaps://dc2.corp.example, ldaps://dc1.corp.example]")},
		edits...)...))
	p.must(p.EmptyStore(p.ctx))
	p.must(p.Start(p.ctx, testenv.Milter))
	_, err := p.AwaitCaughtUp(p.ctx, p.dc2)
	p.must(err)
	return p
}

// connect connects to both controllers, again after an outage.
func (p *pair) connect() {
	p.t.Helper()
	p.close()
	var err error
	p.dc1, err = p.AdministratorOf(p.ctx, testenv.DC)
	p.must(err)
	p.dc2, err = p.AdministratorOf(p.ctx, testenv.DC2)
	p.must(err)
}

func (p *pair) close() {
	for _, d := range []*testenv.Domain{p.dc1, p.dc2} {
		if d != nil {
			d.Close()
		}
	}
}

// clean removes the objects of the test at dc1; dc2 replicates that later.
func (p *pair) clean() {
	p.close()
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	defer cancel()
	domain, err := p.Administrator(ctx)
	if err != nil {
		p.t.Logf("cleaning up: %v", err)
		return
	}
	defer domain.Close()
	for _, dn := range p.made {
		domain.Delete(dn)
	}
}

// replicate replicates in both directions, until both controllers have all changes.
func (p *pair) replicate() {
	p.t.Helper()
	p.must(p.Replicate(p.ctx, testenv.DC, testenv.DC2))
	p.must(p.Replicate(p.ctx, testenv.DC2, testenv.DC))
}

// user creates a user with one address at a controller.
func (p *pair) user(at *testenv.Domain, name string) (dn, address string) {
	p.t.Helper()
	address = name + "@corp.example"
	p.must(at.Delete("CN=" + name + "," + testenv.StaffOU)) // of a run that was interrupted
	dn, err := at.AddUser(testenv.Person{Name: name, Mail: address, Proxies: []string{"SMTP:" + address}})
	p.must(err)
	p.made = append(p.made, dn)
	return dn, address
}

// valid lists the addresses that a controller has.
func (p *pair) valid(at *testenv.Domain) []string {
	p.t.Helper()
	list, _, err := at.Recipients()
	p.must(err)
	return list
}

// stream makes changes at a controller until it is stopped: it adds users, gives them aliases,
// moves the aliases and deletes users. It tells the prober which addresses are valid once the
// edge knows them.
type stream struct {
	p      *pair
	prefix string
	prober *prober
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	changes atomic.Int64
	failed  error // error that ended it, such as a killed controller
	gone    []string
	made    []string
}

func (p *pair) stream(at *testenv.Domain, prefix string, prober *prober) *stream {
	s := &stream{p: p, prefix: prefix, prober: prober}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	s.done.Go(func() {
		for i := 0; s.ctx.Err() == nil && s.failed == nil; i++ {
			s.failed = s.one(at, i)
		}
	})
	return s
}

// stop stops the changes and takes over the created objects.
func (s *stream) stop() {
	s.cancel()
	s.done.Wait()
	s.p.made = append(s.p.made, s.made...)
	s.p.gone = append(s.p.gone, s.gone...)
	s.p.t.Logf("stream %s: %d changes (%v)", s.prefix, s.changes.Load(), s.failed)
}

// more waits until the edge knows some more changes.
func (s *stream) more(n int64) {
	s.p.t.Helper()
	want := s.changes.Load() + n
	s.p.must(testenv.AwaitNil(s.p.ctx, poll, func(context.Context) error {
		if now := s.changes.Load(); now < want {
			return fmt.Errorf("stream %s: %d changes, want %d", s.prefix, now, want)
		}
		return nil
	}))
}

// one creates a user that takes over the alias of the previous user, and deletes the previous
// user.
func (s *stream) one(at *testenv.Domain, i int) error {
	address := func(i int) string { return fmt.Sprintf("%s%d@corp.example", s.prefix, i) }
	alias := s.prefix + "-desk@corp.example"
	before := fmt.Sprintf("CN=%s%d,%s", s.prefix, i-1, testenv.StaffOU)
	dn, err := at.AddUser(testenv.Person{Name: fmt.Sprint(s.prefix, i), Mail: address(i),
		Proxies: []string{"SMTP:" + address(i), "smtp:" + alias}})
	if err != nil {
		return err
	}
	s.made = append(s.made, dn)
	if _, _, err := s.p.AwaitReply(s.ctx, address(i), 250); err != nil {
		return err
	}
	s.prober.add(address(i), alias) // the alias always has an owner from now on
	s.changes.Add(1)
	if i == 0 {
		return nil
	}
	if err := at.RemoveProxy(before, "smtp:"+alias); err != nil {
		return err
	}
	s.prober.remove(address(i - 1))
	if err := at.Delete(before); err != nil {
		return err
	}
	s.gone = append(s.gone, address(i-1))
	return nil
}

// equals waits until the index equals the content of a controller, and asks the edge for every
// address. The index may have more addresses without an owner: a controller that never
// received an object cannot report its deletion.
func (p *pair) equals(at *testenv.Domain, kept ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, equalDeadline)
	defer cancel()
	err := testenv.AwaitNil(ctx, poll, func(ctx context.Context) error {
		status, err := p.AwaitCaughtUp(ctx, at)
		if err != nil {
			return err
		}
		if want := len(p.valid(at)) + len(kept); status.Addresses != want {
			return fmt.Errorf("the index has %d addresses, %s has %d, and %q may be kept", status.Addresses,
				at.Host(), want-len(kept), kept)
		}
		return nil
	})
	if err != nil {
		out, _ := p.RunMilter(p.ctx, "compare")
		p.t.Fatalf("%v\n%s%s", err, out.Stdout, out.Stderr)
	}
	valid := p.valid(at)
	replies, err := p.AskAll(p.ctx, slices.Concat(valid, p.gone))
	p.must(err)
	for address, reply := range replies {
		want := 250
		if !slices.Contains(valid, address) && !slices.Contains(kept, address) {
			want = 550
		}
		if reply.Code() != want {
			p.t.Errorf("edge replied %q to %s, want %d", reply, address, want)
		}
	}
}

// lagging lists the addresses that the index keeps because the followed controller may not
// have received them yet. There may be no other difference, except a kept address that has
// another owner by now.
func (p *pair) lagging(at *testenv.Domain) []string {
	p.t.Helper()
	out, err := p.RunMilter(p.ctx, "compare", "--json")
	p.must(err)
	var compared struct {
		Differences []struct {
			Address string `json:"address"`
			Cause   string `json:"cause"`
		} `json:"differences"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &compared); err != nil || out.Status > 1 {
		p.t.Fatalf("compare --json: exit status %d, %v: %s%s", out.Status, err, out.Stdout, out.Stderr)
	}
	var list []string
	valid := p.valid(at)
	for _, d := range compared.Differences {
		switch {
		case d.Cause == "replication" && slices.Contains(p.gone, d.Address):
			list = append(list, d.Address)
		case d.Cause != "replication" || !slices.Contains(valid, d.Address):
			p.t.Errorf("the index and the directory differ in %s, cause %q", d.Address, d.Cause)
		}
	}
	return list
}

// follows waits until the daemon follows a controller and has read all of it.
func (p *pair) follows(at *testenv.Domain) testenv.Status {
	p.t.Helper()
	status, err := p.AwaitCaughtUp(p.ctx, at)
	p.must(err)
	return status
}

// TestKilledController kills the followed controller during a stream of changes at both.
func TestKilledController(t *testing.T) {
	p := requirePair(t)
	prober, stop := p.probe(p.valid(p.dc2)...)
	streams := []*stream{p.stream(p.dc1, "one", prober), p.stream(p.dc2, "two", prober)}
	streams[0].more(2)
	streams[1].more(2)
	p.must(p.Kill(p.ctx, testenv.DC2))
	killed := time.Now()
	p.follows(p.dc1)
	t.Logf("dc1 is followed %.1f s after dc2 was killed", time.Since(killed).Seconds())
	streams[0].more(5)
	for _, s := range streams {
		s.stop()
	}
	p.must(p.Start(p.ctx, testenv.DC2))
	p.connect()
	p.replicate()
	p.follows(p.dc1)
	kept := p.lagging(p.dc1) // added and removed at dc2 before dc1 received them
	t.Logf("kept for the replication lag: %q", kept)
	p.equals(p.dc1, kept...)
	stop()
}

// TestPartition cuts the followed controller off from the daemon and from the other
// controller. Changes continue on both sides.
func TestPartition(t *testing.T) {
	p := requirePair(t)
	dn, alias := p.user(p.dc2, "partition")
	p.replicate()
	p.follows(p.dc2)
	prober, stop := p.probe(p.valid(p.dc2)...)
	p.must(p.Disconnect(p.ctx, testenv.DC2))
	cut := time.Now()
	t.Cleanup(func() { p.Connect(context.Background(), testenv.DC2) }) // harmless if it is
	// The isolated controller gives the user another alias; the other one gets a new user.
	p.must(p.Modify(p.ctx, testenv.DC2, "dn: "+dn+"\nchangetype: modify\nadd: proxyAddresses\nproxyAddresses: "+
		"smtp:behind@corp.example\n"))
	_, before := p.user(p.dc1, "before-the-cut")
	p.follows(p.dc1)
	t.Logf("dc1 is followed %.1f s after dc2 was cut off", time.Since(cut).Seconds())
	p.replies(before, 250, "")
	prober.add(before)
	p.must(p.Connect(p.ctx, testenv.DC2))
	p.connect()
	p.replicate()
	p.follows(p.dc1)
	p.replies("behind@corp.example", 250, "")
	prober.add("behind@corp.example")
	prober.remove(alias, "behind@corp.example")
	p.must(p.dc2.Delete(dn))
	p.gone = append(p.gone, alias, "behind@corp.example")
	p.replicate()
	p.equals(p.dc1)
	stop()
}

// TestLaggingController: the next controller has not received the latest changes of the
// previous one. Additions from there stay known. A deletion that it has not received is
// undone, because the followed controller decides which objects exist.
func TestLaggingController(t *testing.T) {
	// With confirm, dc1 would still report the removed address.
	p := requirePair(t, testenv.Overlay("confirm: {enabled: false}\n"))
	leaver, left := p.user(p.dc2, "lag-leaver")
	_, stays := p.user(p.dc2, "lag-stays")
	p.replicate()
	p.follows(p.dc2)
	prober, stop := p.probe(p.valid(p.dc2)...)
	p.must(p.CutReplication(p.ctx, testenv.DC2, true))
	t.Cleanup(func() { p.CutReplication(context.Background(), testenv.DC2, false) })
	_, fresh := p.user(p.dc2, "lag-fresh")
	prober.remove(left)
	p.must(p.dc2.Delete(leaver))
	p.follows(p.dc2)
	p.replies(fresh, 250, "")
	p.replies(left, 550, "5.1.1")
	prober.add(fresh)
	p.must(p.Stop(p.ctx, testenv.DC2))
	p.follows(p.dc1)
	p.replies(fresh, 250, "") // dc1 has not received it
	p.replies(stays, 250, "")
	p.replies(left, 250, "") // dc1 still has it
	p.must(p.Start(p.ctx, testenv.DC2))
	p.must(p.CutReplication(p.ctx, testenv.DC2, false))
	p.connect()
	p.replicate()
	p.gone = append(p.gone, left)
	p.equals(p.dc1)
	stop()
}

// TestControllerSetBack restores the database files of a controller, as a snapshot of a
// virtual machine does. The controller keeps its invocationId and reuses USNs.
func TestControllerSetBack(t *testing.T) {
	p := requirePair(t, testenv.Replace("[ldaps://dc2.corp.example, ldaps://dc1.corp.example]",
		"[ldaps://dc2.corp.example]"),
		testenv.Replace("    poll: 1s\n", "    poll: 1s\n    replication_lag: 5s\n"))
	t.Cleanup(func() { p.RemoveSecond(context.Background()) }) // the other controller no longer trusts it
	p.must(p.CutReplication(p.ctx, testenv.DC2, true))
	p.must(p.RunDatabaseAction(p.ctx, testenv.DC2, testenv.CopyDatabase))
	p.connect()
	before := p.follows(p.dc2)
	_, stop := p.probe(p.valid(p.dc2)...)
	for i := range 30 { // enough that the USNs do not catch up before the next pass
		_, address := p.user(p.dc2, fmt.Sprint("after-the-copy", i))
		p.gone = append(p.gone, address)
	}
	p.follows(p.dc2)
	p.replies(p.gone[0], 250, "")
	mark, err := p.MarkLog(p.ctx, testenv.Milter)
	p.must(err)
	p.must(p.RunDatabaseAction(p.ctx, testenv.DC2, testenv.RestoreDatabase))
	_, err = p.AwaitLog(p.ctx, mark, "full pass begins.*set back")
	p.must(err)
	p.connect()
	p.equals(p.dc2)
	if after := p.follows(p.dc2); after.Directories[0].InvocationID != before.Directories[0].InvocationID {
		t.Errorf("invocationId %s, before it was %s", after.Directories[0].InvocationID,
			before.Directories[0].InvocationID)
	}
	stop()
}

// TestControllerRestored destroys the only controller and restores the domain from a backup as
// another controller. Changes after the backup are lost, in the index too.
func TestControllerRestored(t *testing.T) {
	if !*second {
		t.Skip("two domain controllers: run it with `go run ./cmd/testenv test ./testenv -run Controller -args " +
			"-second`")
	}
	p := &pair{edge: require(t)}
	ctx, cancel := context.WithTimeout(t.Context(), secondDeadline)
	t.Cleanup(cancel)
	p.ctx = ctx
	if p.HasSecond(p.ctx) {
		p.must(p.RemoveSecond(p.ctx))
	}
	var err error
	p.dc1, err = p.AdministratorOf(p.ctx, testenv.DC)
	p.must(err)
	t.Cleanup(p.clean)
	p.must(p.Stop(p.ctx, testenv.Milter))
	p.startEmpty(testenv.Replace("[ldaps://dc1.corp.example]", "[ldaps://dc2.corp.example, ldaps://dc1.corp.example]"),
		testenv.Replace("    poll: 1s\n", "    poll: 1s\n    replication_lag: 5s\n"))
	leaver, left := p.user(p.dc1, "restored-leaver")
	before := p.follows(p.dc1)
	prober, stop := p.probe(p.valid(p.dc1)...)

	t.Cleanup(func() { p.must(p.RemoveBackup(context.Background())) })
	p.must(p.Backup(p.ctx))
	prober.remove(left)
	p.must(p.dc1.Delete(leaver))
	_, late := p.user(p.dc1, "restored-late")
	p.follows(p.dc1)
	p.replies(left, 550, "5.1.1")
	p.replies(late, 250, "")
	p.must(p.Kill(p.ctx, testenv.DC))
	t.Cleanup(func() { // restarts dc1, too
		p.close()
		p.must(p.RemoveSecond(context.Background()))
	})
	p.must(p.StartSecond(p.ctx))
	p.dc2, err = p.AdministratorOf(p.ctx, testenv.DC2)
	p.must(err)
	after := p.follows(p.dc2)
	t.Logf("full_pass_reason: %s", after.Directories[0].FullPassReason)
	if after.Directories[0].InvocationID == before.Directories[0].InvocationID {
		t.Error("the restored controller has the invocationId of the one before")
	}
	if want := "another domain controller than before (dc1.corp.example)"; after.Directories[0].FullPassReason != want {
		t.Errorf("full_pass_reason = %q, want %q", after.Directories[0].FullPassReason, want)
	}
	p.gone = append(p.gone, late)
	p.equals(p.dc2)
	p.replies(left, 250, "") // the backup has it
	stop()
}
