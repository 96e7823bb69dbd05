package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/policy"
)

// passwordFile simulates a file that may have no usable password.
type passwordFile struct {
	dials atomic.Int32
	bad   atomic.Pointer[string] // why it is unusable; nil means usable
}

func (f *passwordFile) set(bad string) {
	if f.bad.Store(&bad); bad == "" {
		f.bad.Store(nil)
	}
}

// secret returns the value that a mirror compares.
func (f *passwordFile) secret() string {
	if bad := f.bad.Load(); bad != nil {
		return *bad
	}
	return "hash"
}

// guard returns candidates whose Dial fails while the file is unusable.
func (f *passwordFile) guard(list []Candidate) []Candidate {
	var guarded []Candidate
	for i, c := range list {
		dial := c.Dial
		c.Name = fmt.Sprintf("%s#%d", c.Name, i)
		c.Dial = func(ctx context.Context) (Source, error) {
			f.dials.Add(1)
			if bad := f.bad.Load(); bad != nil {
				return nil, fmt.Errorf("%s: %w", *bad, directory.ErrSecret)
			}
			return dial(ctx)
		}
		guarded = append(guarded, c)
	}
	return guarded
}

// TestPasswordFileGoesBadAndGoodAgain checks that an existing connection stays. Without a connection, no
// further controllers are tried while there is no password, and a repaired file is used at once.
func TestPasswordFileGoesBadAndGoodAgain(t *testing.T) {
	var results <-chan PassResult
	var file passwordFile
	w := newWorld(t, func(w *world, c *Config) {
		c.Poll, c.RejectedBindWait, results = time.Millisecond, time.Hour, passes(c)
		c.Candidates, c.Secret = file.guard([]Candidate{c.Candidates[0], c.Candidates[0], c.Candidates[0]}), file.secret
	})
	w.user("Ann", "ann@corp.example")
	stop := w.run()
	defer stop()
	if r := next(t, results); r.Err != nil {
		t.Fatal(r.Err)
	}
	file.set("empty")
	for range 20 {
		if r := next(t, results); r.Err != nil {
			t.Fatalf("a pass over a connection that exists: %v", r.Err)
		}
	}
	dials := file.dials.Load()
	w.server.CutConnections()
	for {
		if r := next(t, results); errors.Is(r.Err, directory.ErrSecret) {
			break
		}
	}
	if got := w.mirror.Status().LastError; !errors.Is(got, directory.ErrSecret) {
		t.Errorf("last error: %v", got)
	}
	if more := file.dials.Load() - dials; more != 1 {
		t.Errorf("%d attempts to connect without a password, want 1", more)
	}
	file.set("several lines") // another unusable content
	if r := next(t, results); !errors.Is(r.Err, directory.ErrSecret) {
		t.Errorf("with several lines: %v", r.Err)
	}
	w.user("Bob", "bob@corp.example")
	file.set("")
	if r := next(t, results); r.Err != nil {
		t.Fatalf("with a good file: %v", r.Err)
	}
	w.wantEqual()
}

// TestConfirmWaitsForAGoodPasswordFile checks the same for the connection of the confirmation.
func TestConfirmWaitsForAGoodPasswordFile(t *testing.T) {
	var file passwordFile
	c := newConfirming(t, func(c *confirming, m *Config, _ *ConfirmConfig) {
		m.Candidates, m.Secret, m.RejectedBindWait = file.guard(m.Candidates), file.secret, time.Hour
	})
	c.workers[0].keepAlive = time.Millisecond
	c.start()
	dials := file.dials.Load()
	file.set("empty")
	c.second.CutConnections()
	c.await(cannotConfirm)
	for i := 0; !errors.Is(c.Confirmer.Status()[0].LastError, directory.ErrSecret); i++ {
		c.wantError(fmt.Sprintf("a%d@corp.example", i), ErrUnanswered)
	}
	if more := file.dials.Load() - dials; more != 1 {
		t.Errorf("%d attempts to connect without a password, want 1", more)
	}
	file.set("")
	c.await(canConfirm)
	c.want("nobody@corp.example", policy.Entry{})
}
