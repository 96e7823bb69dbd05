package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
)

const (
	// refusedWait is how long a refused secret is not tried again. It is no longer than a
	// mirror waits, whose next attempt would come too early otherwise.
	refusedWait = 15 * time.Minute

	// logonPatience is how long one logon waits for another one with a secret that has worked:
	// that one may be at a controller that hangs.
	logonPatience = 2 * time.Second
)

// logons sees to it that no secret is tried again soon after the directory refused it, by
// whatever part of the daemon and over reloads: a few failed logons lock the account. The zero
// value is ready.
type logons struct {
	mu sync.Mutex
	of map[string]*logon // by where and as what to log on
}

// logon is one account at one set of controllers.
type logon struct {
	secret func() string // changes with the secret, and is not it
	now    func() time.Time
	turn   chan struct{} // holds one: a logon is under way

	mu      sync.Mutex // guards all below
	worked  string     // the secret that was accepted last
	refused string     // the secret that was refused last
	reason  error
	until   time.Time // refused is not tried again before
}

// guard has all connections to the controllers of a directory go through its logon.
func (l *logons) guard(d config.Directory, list []mirror.Candidate) []mirror.Candidate {
	if len(list) == 0 {
		return list
	}
	own := l.logon(d)
	guarded := make([]mirror.Candidate, len(list))
	for i, c := range list {
		dial := c.Dial
		c.Dial = func(ctx context.Context) (mirror.Source, error) { return own.dial(ctx, dial) }
		guarded[i] = c
	}
	return guarded
}

// logon returns the one of a directory. Other controllers, another account or another file
// make it another one.
func (l *logons) logon(d config.Directory) *logon {
	key := fmt.Sprintf("%q %q %q %q %q", d.Name, d.URLs, d.Discover, d.Site,
		[]string{d.Bind.DN, d.Bind.PasswordFile, d.Bind.Keytab, strings.ToLower(d.Bind.Principal)})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string]*logon{}
	}
	if l.of[key] == nil {
		l.of[key] = newLogon(secretOf(d.Bind), time.Now)
	}
	return l.of[key]
}

func newLogon(secret func() string, now func() time.Time) *logon {
	return &logon{secret: secret, now: now, turn: make(chan struct{}, 1)}
}

// dial connects, unless the secret was refused a short time ago. One logon is tried at a time,
// so several parts of the daemon do not try a wrong secret at once.
func (l *logon) dial(ctx context.Context, dial func(context.Context) (mirror.Source, error)) (mirror.Source, error) {
	defer l.await(ctx)()
	secret := l.secret()
	if err := l.blocked(secret); err != nil {
		return nil, err
	}
	source, err := dial(ctx)
	switch {
	case err == nil:
		l.accepted(secret)
	case errors.Is(err, directory.ErrCredentials) && l.secret() == secret: // else another one was tried
		l.wasRefused(secret, err)
	}
	return source, err
}

// await waits for a turn, and returns what ends it.
func (l *logon) await(ctx context.Context) (end func()) {
	var over <-chan time.Time
	if l.hasWorked() {
		timer := time.NewTimer(logonPatience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }
	case <-ctx.Done():
	case <-over:
	}
	return func() {}
}

func (l *logon) hasWorked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worked != "" && l.worked == l.secret()
}

// blocked returns why a secret is not tried now; nil: it may be.
func (l *logon) blocked(secret string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.until.Sub(l.now())
	if l.reason == nil || secret != l.refused || left <= 0 || left > refusedWait { // or the clock was set back
		return nil
	}
	return fmt.Errorf("%w; not tried again before %s, unless the password file or "+
		"keytab changes", l.reason, l.until.Format(time.TimeOnly))
}

func (l *logon) accepted(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worked, l.refused, l.reason = secret, "", nil
}

func (l *logon) wasRefused(secret string, reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.worked, l.refused, l.reason, l.until = "", secret, reason, l.now().Add(refusedWait)
}
