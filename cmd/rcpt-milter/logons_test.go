package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/testenv/adsim"
)

// account is where a logon is tried.
type account struct {
	secret, right string
	now           time.Time
	tried         int
}

func (a *account) logon() *logon {
	return newLogon(func() string { return a.secret }, func() time.Time { return a.now })
}

func (a *account) dial(context.Context) (mirror.Source, error) {
	a.tried++
	if a.secret != a.right {
		return nil, fmt.Errorf("bind as %q: %w", "svc", directory.ErrCredentials)
	}
	return nil, nil
}

// TestRefusedSecretIsNotTriedAgain: not before its time is over or there is another one.
func TestRefusedSecretIsNotTriedAgain(t *testing.T) {
	a := &account{secret: "old", right: "new", now: time.Now()}
	l := a.logon()
	try := func(what string, tried int, want error) {
		t.Helper()
		before := a.tried
		if _, err := l.dial(t.Context(), a.dial); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if got := a.tried - before; got != tried {
			t.Errorf("%s: tried %d times, want %d", what, got, tried)
		}
	}
	try("first", 1, directory.ErrCredentials)
	for range 5 {
		try("again", 0, directory.ErrCredentials)
	}
	if _, err := l.dial(t.Context(), a.dial); err == nil || !strings.Contains(err.Error(), "; not tried again before ") {
		t.Errorf("again: %v", err)
	}
	a.secret = "other"
	try("another secret", 1, directory.ErrCredentials)
	try("another secret again", 0, directory.ErrCredentials)
	a.now = a.now.Add(refusedWait - time.Second)
	try("a second before its time", 0, directory.ErrCredentials)
	a.now = a.now.Add(time.Second)
	try("after its time", 1, directory.ErrCredentials)
	a.now = a.now.Add(-24 * time.Hour)
	try("after the clock was set back", 1, directory.ErrCredentials)
	a.secret = "new"
	try("the right one", 1, nil)
	try("the right one again", 1, nil)
	a.right = "newer"
	try("no longer the right one", 1, directory.ErrCredentials)
	try("no longer the right one, again", 0, directory.ErrCredentials)
}

// TestOtherErrorsBlockNothing: a controller that is away is tried again at once.
func TestOtherErrorsBlockNothing(t *testing.T) {
	l := (&account{secret: "s"}).logon()
	for _, err := range []error{directory.ErrUnreachable, directory.ErrTLS, directory.ErrSecret, directory.ErrRefused} {
		for range 2 {
			if _, got := l.dial(t.Context(), func(context.Context) (mirror.Source, error) { return nil, err }); got != err {
				t.Errorf("%v, want %v", got, err)
			}
		}
	}
}

// TestOneLogonAtATime: a wrong secret costs one failed logon, however many try it at once.
func TestOneLogonAtATime(t *testing.T) {
	a := &account{secret: "wrong", now: time.Now()}
	l := a.logon()
	var all sync.WaitGroup
	var refused atomic.Int32
	for range 20 {
		all.Go(func() {
			if _, err := l.dial(t.Context(), a.dial); errors.Is(err, directory.ErrCredentials) {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if a.tried != 1 || refused.Load() != 20 {
		t.Errorf("tried %d times, %d refused, want 1 and 20", a.tried, refused.Load())
	}
}

// TestLogonsOfDirectories: what tells a reload whether a secret is tried in the same way.
func TestLogonsOfDirectories(t *testing.T) {
	d := config.Directory{Name: "corp", URLs: []string{"ldaps://dc1:636"}, Bind: config.Bind{DN: "svc",
		PasswordFile: "/p"}, Poll: 1}
	var l logons
	first := l.logon(d)
	for what, c := range map[string]struct {
		change func(*config.Directory)
		same   bool
	}{
		"nothing":     {func(*config.Directory) {}, true},
		"poll":        {func(d *config.Directory) { d.Poll = 2 }, true},
		"bases":       {func(d *config.Directory) { d.Bases = []string{"OU=x"} }, true},
		"name":        {func(d *config.Directory) { d.Name = "lab" }, false},
		"controllers": {func(d *config.Directory) { d.URLs = []string{"ldaps://dc2:636"} }, false},
		"account":     {func(d *config.Directory) { d.Bind.DN = "other" }, false},
		"file":        {func(d *config.Directory) { d.Bind.PasswordFile = "/q" }, false},
	} {
		other := d
		c.change(&other)
		if got := l.logon(other) == first; got != c.same {
			t.Errorf("another %s: the same logon is %v, want %v", what, got, c.same)
		}
	}
}

// TestNothingBindsAfterARefusal: no command and no reload tries a refused password again.
func TestNothingBindsAfterARefusal(t *testing.T) {
	r := newRig(t, "confirm: {enabled: true}")
	r.edit("poll: 100ms", "poll: 100ms\n    notify: true")
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	for !r.status().Directories[0].Notify {
	}
	r.server.SetFaults(adsim.Faults{BindSubCode: "52e"})
	r.server.CutConnections()
	for !strings.Contains(d.log.String(), "bind refused: not trying again") {
	}
	before := r.server.Stats().FailedBinds
	if before == 0 || before > 2 {
		t.Errorf("%d failed logons after the password was changed", before)
	}
	for i := range 3 {
		r.edit(fmt.Sprintf("poll: %dms", 100+i), fmt.Sprintf("poll: %dms", 101+i))
		r.want(exitOK, "reload")
		for _, command := range [][]string{{"sync", "--wait"}, {"sync", "--full"}, {"removals", "discard"}, {"compare"},
			{"lookup", "new@corp.example"}} {
			r.command(command...)
		}
	}
	if more := r.server.Stats().FailedBinds - before; more > 0 {
		t.Errorf("%d failed logons more by commands and reloads", more)
	}
	if got := r.status().Directories[0].LastError; !strings.Contains(got, "is refused") {
		t.Errorf("last error: %q", got)
	}
	r.server.SetFaults(adsim.Faults{})
	r.server.SetPassword("another")
	r.write("password", "another\n")
	for r.status().Directories[0].LastError != "" {
	}
	r.want(exitOK, "sync", "--wait")
}

// TestCheckLiveTriesOnce: a wrong password is tried at one controller only.
func TestCheckLiveTriesOnce(t *testing.T) {
	r := newRig(t)
	r.edit("urls: ["+r.server.URL(), "urls: ["+r.server.URL()+", "+strings.Replace(r.server.URL(), "127.0.0.1",
		"localhost", 1)+", "+r.server.StartTLSURL())
	r.write("password", "wrong")
	out := r.want(exitFailure, "check", "--live")
	if got := r.server.Stats().FailedBinds; got != 1 {
		t.Errorf("%d failed logons\n%s", got, out)
	}
	if !strings.Contains(out, "no other domain controller is tried") {
		t.Errorf("check --live says\n%s", out)
	}
}
