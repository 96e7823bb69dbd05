package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/policy"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestConfirmBudget checks that many recipients at once cost no more searches than the budget permits, and one
// search per address. The clock stands still, so the budget does not grow.
func TestConfirmBudget(t *testing.T) {
	c := newConfirming(t, func(c *confirming, m *Config, cc *ConfirmConfig) {
		cc.PerSecond = 5
		at := time.Now()
		cc.Now = func() time.Time { return at.Add(time.Duration(c.offset.Load())) }
		m.Now = cc.Now
	})
	c.newUser("Neu", "smtp:neu@corp.example")
	c.start()
	searches := watch(c.second, adsim.Faults{})
	c.want("neu@corp.example", policy.Entry{Known: true})
	var running sync.WaitGroup
	var over atomic.Int64
	for i := range 400 {
		running.Go(func() {
			a, err := address.Parse(fmt.Sprintf("made-up%d@corp.example", i%40))
			if err != nil {
				t.Error(err)
			}
			found, err := c.Confirm(t.Context(), a, false)
			switch {
			case errors.Is(err, ErrOverBudget):
				over.Add(1)
			case err != nil || found.Known:
				t.Errorf("Confirm(%s) = %+v, %v", a, found, err)
			}
		})
	}
	running.Wait()
	if got := searches.Load(); got != 5 {
		t.Errorf("%d searches, with a budget of 5 a second", got)
	}
	if over.Load() == 0 || c.Counts().OverBudget != over.Load() {
		t.Errorf("%d were over the budget, %d counted", over.Load(), c.Counts().OverBudget)
	}
	c.want("neu@corp.example", policy.Entry{Known: true}) // cached, so it needs no budget
	c.wantError("new@corp.example", ErrOverBudget)
	c.advance(200 * time.Millisecond)
	c.want("new@corp.example", policy.Entry{})
	c.wantError("more@corp.example", ErrOverBudget)
}

// TestConfirmSuspects checks that suspect clients leave half of the budget to others.
func TestConfirmSuspects(t *testing.T) {
	c := newConfirming(t, func(c *confirming, m *Config, cc *ConfirmConfig) {
		cc.PerSecond = 6
		at := time.Now()
		cc.Now = func() time.Time { return at }
	})
	c.start()
	asked := 0
	for i := range 20 {
		a, err := address.Parse(fmt.Sprintf("made-up%d@corp.example", i))
		c.must(err)
		if _, err := c.Confirm(t.Context(), a, true); err == nil {
			asked++
		} else if !errors.Is(err, ErrOverBudget) {
			t.Fatal(err)
		}
	}
	if asked != 3 {
		t.Errorf("suspects had %d of 6 searches", asked)
	}
	for i := range 3 {
		c.want(fmt.Sprintf("honest%d@corp.example", i), policy.Entry{})
	}
	c.wantError("late@corp.example", ErrOverBudget)
}

// TestConfirmWithoutAnswer checks that the index alone decides if a controller fails in any way, after a while
// without delay. The controller is queried again after it has recovered.
func TestConfirmWithoutAnswer(t *testing.T) {
	const longest = 200 * time.Millisecond // none of these failures ends by itself
	for name, f := range map[string]adsim.Faults{
		"stalls":             {SilentSearch: true},
		"stalls in an entry": {StallAfterEntries: 1},
		"too slow":           {Delay: 100 * longest},
		"hangs":              {Silent: true, SilentAccept: true},
		"cut":                {CutAfterEntries: 1},
		"cut in an entry":    {CutAfterBytes: 50},
		"busy":               {SearchResult: 51},
		"a referral":         {SearchResult: 10},
		"no longer bound":    {SearchResult: 1},
		"no end of the page": {DropPagingControl: true},
		"nonsense":           {Tamper: func(adsim.Raw) []byte { return []byte("\x30\x84\x7f\xff\xff\xffnonsense") }},
		"an entry without id": {Tamper: func(r adsim.Raw) []byte {
			return []byte(strings.ReplaceAll(string(r.Message), "objectGUID", "objectGUIE"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newConfirming(t, func(c *confirming, m *Config, cc *ConfirmConfig) {
				m.Candidates[1] = c.impatient(c.second)
				m.Candidates = m.Candidates[1:]
				cc.Timeout = longest
			})
			// The mirror also follows this controller, so it works again.
			c.user("Neu", "neu@corp.example")
			c.newUser("Neu", "smtp:neu@corp.example")
			c.start()
			c.second.SetFaults(f)
			c.wantError("neu@corp.example", ErrUnanswered)
			c.await(cannotConfirm)
			// No caller waits while there is no connection.
			searches := c.second.Stats().Searches
			for i := range 1000 {
				c.wantError(fmt.Sprintf("a%d@corp.example", i), ErrUnanswered)
			}
			if got := c.second.Stats().Searches - searches; got > 40 {
				t.Errorf("%d searches at a controller that fails", got)
			}
			c.second.SetFaults(adsim.Faults{})
			for late := time.Now().Add(forAnswer); ; {
				if found, err := c.ask("neu@corp.example"); err == nil && found.Known {
					break
				} else if time.Now().After(late) {
					t.Fatalf("never asked again: %+v", c.Confirmer.Status())
				}
				c.await(canConfirm)
			}
			if got := c.Counts(); got.Found != 1 || got.Unanswered < 1001 {
				t.Errorf("counts: %+v", got)
			}
		})
	}
}

// TestConfirmOverALostConnection checks that a lost connection is replaced, and that the request that detected
// the loss is answered.
func TestConfirmOverALostConnection(t *testing.T) {
	c := newConfirming(t, nil)
	c.newUser("Neu", "smtp:neu@corp.example")
	c.start()
	for i := range 5 {
		c.second.CutConnections()
		c.want("neu@corp.example", policy.Entry{Known: true})
		c.want(fmt.Sprintf("nobody%d@corp.example", i), policy.Entry{})
		c.advance(hitTTL)
	}
}

// TestConfirmKeepsTheConnection checks that an idle connection is used regularly, so its loss is detected
// before the next request.
func TestConfirmKeepsTheConnection(t *testing.T) {
	c := newConfirming(t, nil)
	c.workers[0].keepAlive = time.Millisecond
	c.start()
	c.second.CutConnections()
	c.await(cannotConfirm)
	c.await(canConfirm)
	c.want("nobody@corp.example", policy.Entry{})
}

// TestConfirmDoesNotLockTheAccount checks that wrong credentials are tried only once, and not before the mirror
// has bound with them.
func TestConfirmDoesNotLockTheAccount(t *testing.T) {
	var secret atomic.Pointer[string]
	c := newConfirming(t, func(c *confirming, m *Config, _ *ConfirmConfig) {
		word := "first"
		secret.Store(&word)
		m.Secret = func() string { return *secret.Load() }
		m.RejectedBindWait = time.Hour
		c.second.SetFaults(adsim.Faults{BindSubCode: "52e"})
	})
	c.begin()
	c.await(cannotConfirm)
	for i := range 100 {
		c.wantError(fmt.Sprintf("a%d@corp.example", i), ErrUnanswered)
	}
	if got := c.second.Stats().FailedBinds; got != 1 {
		t.Errorf("%d binds were rejected", got)
	}
	if got := c.Confirmer.Status()[0]; !errors.Is(got.LastError, directory.ErrCredentials) {
		t.Errorf("status: %+v", got)
	}
	if got := strings.Join(c.mirror.Status().Warnings, " "); !strings.Contains(got,
		"recipients cannot be confirmed: ") {
		t.Errorf("warnings: %q", got)
	}
	c.second.SetFaults(adsim.Faults{})
	word := "second"
	secret.Store(&word)
	c.await(canConfirm)
	c.want("nobody@corp.example", policy.Entry{})
	if got := c.mirror.Status().Warnings; len(got) != 0 {
		t.Errorf("warnings: %q", got)
	}
}

func TestConfirmWaitsForTheMirror(t *testing.T) {
	w := newWorld(t, nil)
	c, err := NewConfirmer(ConfirmConfig{Directories: []ConfirmDirectory{{Mirror: w.mirror}}, Timeout: time.Second,
		PerSecond: 1})
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	a, _ := address.Parse("nobody@corp.example")
	if found, err := c.Confirm(t.Context(), a, false); !errors.Is(err, ErrUnanswered) {
		t.Errorf("Confirm = %+v, %v, before the mirror has logged on", found, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := w.server.Stats().Connections; got != 0 {
		t.Errorf("%d connections", got)
	}
}

// TestConfirmEnds checks that no caller waits for a directory that cannot be queried, and that no goroutines
// are left behind.
func TestConfirmEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	for range 20 {
		c, err := NewConfirmer(ConfirmConfig{Directories: []ConfirmDirectory{{Mirror: w.mirror}}, Timeout: forAnswer,
			PerSecond: 1000})
		w.must(err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		var asking sync.WaitGroup
		for i := range 20 {
			asking.Go(func() {
				a, _ := address.Parse(fmt.Sprintf("a%d@corp.example", i))
				c.Confirm(ctx, a, false)
			})
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		asking.Wait()
	}
	w.mirror.Close()
	w.server.Close()
	w.store.Close()
	for late := time.Now().Add(forAnswer); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(late) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}
