package testenv_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// TestStory is the story of the demo: a user's life in Active Directory, and the replies of
// the edge after each change, by the milter and by the socketmap.
func TestStory(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	e.socketmap()
	const user = "story"
	dn := "CN=" + user + "," + testenv.StaffOU
	renamed := "CN=" + user + " new," + testenv.StaffOU
	moved := "CN=" + user + " new," + testenv.LeaversOU
	t.Cleanup(func() {
		for _, dn := range []string{dn, renamed, moved} {
			domain.Delete(dn)
		}
	})
	for _, chapter := range []struct {
		dialogue string
		change   func() error
	}{
		{"1-before", func() error { return nil }},
		{"2-added", func() error {
			_, err := domain.AddUser(testenv.Person{Name: user, Mail: user + "@corp.example",
				Proxies: []string{"SMTP:" + user + "@corp.example"}})
			return err
		}},
		{"3-alias-added", func() error { return domain.AddProxy(dn, "smtp:Story.Alias@Corp.Example") }},
		{"4-alias-removed", func() error { return domain.RemoveProxy(dn, "smtp:Story.Alias@Corp.Example") }},
		{"5-renamed", func() error {
			_, err := domain.Move(dn, user+" new", testenv.StaffOU)
			return errors.Join(err, domain.Set(renamed, "mail", user+".new@corp.example"),
				domain.Set(renamed, "proxyAddresses", "SMTP:"+user+".new@corp.example"))
		}},
		{"6-moved", func() error {
			_, err := domain.Move(renamed, user+" new", testenv.LeaversOU)
			return err
		}},
		{"7-deleted", func() error { return domain.Delete(moved) }},
		{"8-undeleted", func() error {
			// A tombstone of a domain without recycle bin has lost its addresses.
			err := domain.Undelete(user+" new", moved)
			return errors.Join(err, domain.Set(moved, "proxyAddresses", "SMTP:"+user+".new@corp.example"))
		}},
		{"7-deleted", func() error { return domain.Delete(moved) }},
	} {
		e.must(chapter.change())
		_, err := e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
		e.dialogue("story/"+chapter.dialogue, map[string]string{"user": user})
		e.mapDialogue("story/"+chapter.dialogue, map[string]string{"user": user})
	}
	e.equalsAD(domain, user+"@corp.example", user+".new@corp.example", user+".alias@corp.example")
}

// TestSharedAddress: an address is known as long as one of its owners has it.
func TestSharedAddress(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	const address = "both@corp.example"
	var dns []string
	for _, name := range []string{"both1", "both2"} {
		dn, err := domain.AddUser(testenv.Person{Name: name, Proxies: []string{"smtp:" + address}})
		e.must(err)
		t.Cleanup(func() { domain.Delete(dn) })
		dns = append(dns, dn)
	}
	for i, want := range []int{250, 250, 550} {
		if i > 0 {
			e.must(domain.Delete(dns[i-1]))
		}
		_, err := e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
		e.replies(address, want, "")
	}
}

// TestKinds adds and deletes an object of each kind while the daemon follows.
func TestKinds(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	for _, kind := range []struct {
		name string
		add  func(testenv.Person) (string, error)
	}{
		{"kind-user", domain.AddUser}, {"kind-shared", domain.AddShared}, {"kind-group", domain.AddGroup},
		{"kind-contact", domain.AddContact},
	} {
		address := kind.name + "@corp.example"
		e.replies(address, 550, "5.1.1")
		dn, err := kind.add(testenv.Person{Name: kind.name, Mail: address, Proxies: []string{"SMTP:" + address}})
		e.must(err)
		t.Cleanup(func() { domain.Delete(dn) })
		_, err = e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
		e.replies(address, 250, "")
		e.must(domain.Delete(dn))
		_, err = e.AwaitCaughtUp(e.ctx, domain)
		e.must(err)
		e.replies(address, 550, "5.1.1")
	}
}

// TestAwayAndBack: the domain controller goes away, and the edge still decides. The daemon is
// restarted from disk, then the domain controller returns.
func TestAwayAndBack(t *testing.T) {
	e := require(t)
	domain := e.administrator()
	before, err := e.AwaitCaughtUp(e.ctx, domain)
	e.must(err)
	e.must(e.Stop(e.ctx, testenv.DC))
	e.dialogue("story/judged", nil)
	e.must(e.Kill(e.ctx, testenv.Milter))
	e.dialogue("story/daemon-away", nil)
	started := time.Now()
	e.must(e.Start(e.ctx, testenv.Milter))
	_, _, err = e.AwaitReply(e.ctx, "alice@corp.example", 250)
	e.must(err)
	t.Logf("answered from disk within %.2f s of the start", time.Since(started).Seconds())
	e.dialogue("story/judged", nil)
	status, err := e.Status(e.ctx)
	e.must(err)
	if status.Addresses != before.Addresses || status.Digest != before.Digest {
		t.Errorf("after the restart: %d addresses, digest %s; before: %d, %s",
			status.Addresses, status.Digest, before.Addresses, before.Digest)
	}
	e.must(e.Start(e.ctx, testenv.DC))
	again := e.administrator()
	after, err := e.AwaitCaughtUp(e.ctx, again)
	e.must(err)
	if len(after.Directories) == 1 && after.Directories[0].LastFull.Number != before.Directories[0].LastFull.Number {
		t.Errorf("the restart cost a full pass: %+v, before it was %+v", after.Directories[0].LastFull,
			before.Directories[0].LastFull)
	}
	e.equalsAD(again)
}

// TestStale: if the last good pass is too old, a missing address is deferred, not rejected as
// unknown.
func TestStale(t *testing.T) {
	e := require(t)
	e.socketmap(testenv.Replace("removal_grace: 0s", "removal_grace: 0s\nlate_after: 3s\nstale_after: 6s"))
	e.replies("nobody@corp.example", 550, "5.1.1")
	e.must(e.Pause(e.ctx, testenv.DC))
	_, _, err := e.AwaitReply(e.ctx, "nobody@corp.example", 451)
	e.must(err)
	e.dialogue("story/stale", nil)
	e.mapDialogue("story/stale", nil)
	out, err := e.RunMilter(e.ctx, "status")
	e.must(err)
	if out.Status != 2 {
		t.Errorf("status while stale: exit status %d, want 2", out.Status)
	}
	e.must(e.Unpause(e.ctx, testenv.DC))
	_, _, err = e.AwaitReply(e.ctx, "nobody@corp.example", 550)
	e.must(err)
}

// TestCommands: the command line in the daemon's container.
func TestCommands(t *testing.T) {
	e := require(t)
	_, err := e.AwaitCaughtUp(e.ctx, e.administrator()) // an earlier test may have stopped dc1
	e.must(err)
	for _, test := range []struct {
		args   []string
		status int
		stdout string
	}{
		{[]string{"status"}, 0, "fresh"},
		{[]string{"lookup", "ALICE@corp.example"}, 0, "alice@corp.example"},
		{[]string{"lookup", "nobody@corp.example"}, 1, "550 5.1.1"},
		{[]string{"sync", "--wait"}, 0, ""},
		{[]string{"sync", "--full", "--wait"}, 0, ""},
		{[]string{"check"}, 0, ""},
		{[]string{"check", "--live"}, 0, ""},
		{[]string{"version"}, 0, ""},
		{[]string{"no-such-command"}, 64, ""},
		{[]string{"lookup"}, 64, ""},
		{[]string{"--config", "/nowhere.yaml", "check"}, 78, ""},
	} {
		out, err := e.RunMilter(e.ctx, test.args...)
		e.must(err)
		if out.Status != test.status || !contains(out.Stdout, test.stdout) {
			t.Errorf("rcpt-milter %v: exit status %d, want %d, with %q in:\n%s%s", test.args, out.Status,
				test.status, test.stdout, out.Stdout, out.Stderr)
		}
	}
}

// TestMetrics: the HTTP endpoints, from outside the container.
func TestMetrics(t *testing.T) {
	e := require(t)
	address, err := e.Address(e.ctx, testenv.Milter, 9417)
	e.must(err)
	for path, want := range map[string]string{
		"/metrics": "rcpt_milter_decisions_total", "/healthz": "", "/readyz": "",
	} {
		status, body, err := get(e.ctx, "http://"+address+path)
		e.must(err)
		if status != 200 || !contains(body, want) {
			t.Errorf("GET %s: status %d, want 200 with %q in:\n%.300s", path, status, want, body)
		}
	}
}

// while asks for a known recipient until the test stops it. It fails the test if the edge ever
// replied that the recipient is unknown.
func (e *edge) while(recipient string) (stop func()) {
	address, err := e.Address(e.ctx, testenv.MX, testenv.PortSMTP)
	e.must(err)
	return e.whileAt(address, recipient)
}

// whileAt is while at any server.
func (e *edge) whileAt(address, recipient string) (stop func()) {
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan []string, 1)
	go func() {
		var wrong []string
		for ctx.Err() == nil {
			if reply, err := testenv.AskOnce(ctx, address, recipient); err == nil && reply.Code()/100 == 5 {
				wrong = append(wrong, reply.String())
			}
		}
		ended <- wrong
	}()
	return func() {
		e.t.Helper()
		cancel()
		if wrong := <-ended; len(wrong) > 0 {
			e.t.Errorf("%s was refused %d times while it was known: %q", recipient, len(wrong), wrong[0])
		}
	}
}
