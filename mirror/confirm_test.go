package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/policy"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// TestConfirm checks that a found object is classified as in a pass.
func TestConfirm(t *testing.T) {
	c := newConfirming(t, func(c *confirming, m *Config, _ *ConfirmConfig) {
		m.Rules = Rules{Bases: []string{people}, InternalOnly: true, OmitSystem: true, OmitDisabled: true}
	})
	yes := policy.Entry{Known: true}
	restricted := policy.Entry{Known: true, InternalOnly: true}
	inside := adsim.Attrs{"proxyAddresses": {"smtp:board@corp.example", "smtp:both@corp.example"},
		"msExchRequireAuthToSendTo": {"TRUE"}}
	c.newUser("Neu", "smtp:neu@corp.example", "SMTP:Neu.Mann@corp.example", "x500:/o=corp/cn=neu",
		"sip:chat@corp.example", "smtp:rené@corp.example", "smtp:both@corp.example")
	c.new(adsim.Contact, "CN=Star,"+people, adsim.Attrs{"mail": {"*@corp.example"}})
	c.new(adsim.Group, "CN=Board,"+people, inside)
	c.new(adsim.User, "CN=Room,"+people, adsim.Attrs{"proxyAddresses": {"smtp:room@corp.example"},
		"userAccountControl": {"514"}, "msExchRecipientTypeDetails": {"16"}})
	c.must(c.d2.SetDisabled(c.newUser("Left", "smtp:left@corp.example"), true))
	c.new(adsim.User, "CN=Sys,"+people, adsim.Attrs{"proxyAddresses": {"smtp:sys@corp.example"},
		"msExchRecipientTypeDetails": {"16384"}})
	c.new(adsim.User, "CN=Out,OU=Left,DC=corp,DC=example", adsim.Attrs{"proxyAddresses": {"smtp:out@corp.example"}})
	c.new(adsim.Computer, "CN=PC,"+people, adsim.Attrs{"proxyAddresses": {"smtp:pc@corp.example"}})
	c.must(c.d2.Delete(c.newUser("Gone", "smtp:gone@corp.example")))
	c.start()
	for text, want := range map[string]policy.Entry{
		"neu@corp.example":      yes,
		"NEU.mann@Corp.Example": yes,
		"ann@corp.example":      yes, // also at the first controller
		"rené@corp.example":     yes,
		"*@corp.example":        yes, // a valid address of an object
		"room@corp.example":     yes, // disabled, as rooms are
		"both@corp.example":     yes, // one of its owners accepts mail from outside senders
		"board@corp.example":    restricted,

		"rene@corp.example":       {}, // found, and another one
		"réne@corp.example":       {},
		"n*@corp.example":         {},
		"*@*":                     {},
		`"*)(cn=*"@corp.example`:  {},
		"chat@corp.example":       {},
		"left@corp.example":       {},
		"sys@corp.example":        {},
		"out@corp.example":        {},
		"pc@corp.example":         {},
		"gone@corp.example":       {},
		"nobody@corp.example":     {},
		"neu@elsewhere.example":   {},
		`"\\5c\\2a"@corp.example`: {},
	} {
		c.want(text, want)
	}
	if got := c.server.Stats(); got.Binds != 1 {
		t.Errorf("%d binds at the controller that is followed, which is not asked", got.Binds)
	}
	if got := c.Counts(); got.Found != 8 || got.NotFound != 14 || got.Remembered+got.OverBudget+got.Unanswered != 0 {
		t.Errorf("counts: %+v", got)
	}
	if got := c.Confirmer.Status(); len(got) != 1 ||
		got[0] != (ConfirmStatus{Directory: "corp", Controller: "dc2.corp.example"}) {
		t.Errorf("status: %+v", got)
	}
}

// TestConfirmAtTheOneFollowed checks that the followed controller is queried if no other one answers.
func TestConfirmAtTheOneFollowed(t *testing.T) {
	for name, change := range map[string]func(*confirming, *Config){
		"the only one":    func(c *confirming, m *Config) { m.Candidates = m.Candidates[:1] },
		"under two names": func(c *confirming, m *Config) { m.Candidates = append(m.Candidates[:1], m.Candidates[0]) },
		"the other down":  func(c *confirming, m *Config) { c.second.Down() },
		"the other busy":  func(c *confirming, m *Config) { c.second.SetFaults(adsim.Faults{SearchResult: 51}) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newConfirming(t, func(c *confirming, m *Config, _ *ConfirmConfig) { change(c, m) })
			c.start()
			c.user("Neu", "neu@corp.example")
			c.want("neu@corp.example", policy.Entry{Known: true})
			if got := c.Confirmer.Status()[0]; got.Controller != "dc1.corp.example" || !got.Followed {
				t.Errorf("status: %+v", got)
			}
		})
	}
}

// TestConfirmGoesElsewhere checks a mirror that switches to the controller that is being queried. The other
// controller is then queried as soon as it answers.
func TestConfirmGoesElsewhere(t *testing.T) {
	c := newConfirming(t, nil)
	c.workers[0].fallbackInterval = time.Millisecond
	c.start()
	c.want("nobody@corp.example", policy.Entry{})
	c.server.Down()
	c.pass(store.Full)
	c.must(c.server.Up())
	for c.Confirmer.Status()[0].Controller != "dc1.corp.example" {
		c.await(canConfirm)
	}
	first, second := watch(c.server, adsim.Faults{}), watch(c.second, adsim.Faults{})
	c.want("other@corp.example", policy.Entry{})
	if first.Load() != 1 || second.Load() != 0 {
		t.Errorf("%d searches at the first controller and %d at the second, which is followed now", first.Load(),
			second.Load())
	}
}

// TestConfirmRemembers checks that concurrent and repeated requests for one address cost one search.
func TestConfirmRemembers(t *testing.T) {
	c := newConfirming(t, nil)
	c.newUser("Neu", "smtp:neu@corp.example")
	c.start()
	searches := watch(c.second, adsim.Faults{})
	for range 10 {
		c.want("neu@corp.example", policy.Entry{Known: true})
		c.want("nobody@corp.example", policy.Entry{})
	}
	if got := searches.Load(); got != 2 {
		t.Errorf("%d searches for 2 addresses", got)
	}
	if got, want := c.Counts(), (ConfirmCounts{Found: 1, NotFound: 1, Remembered: 18}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	c.newUser("Nobody", "smtp:nobody@corp.example")
	c.advance(missTTL)
	c.want("nobody@corp.example", policy.Entry{Known: true})
	c.want("neu@corp.example", policy.Entry{Known: true})
	if got := searches.Load(); got != 3 {
		t.Errorf("%d searches after the misses were forgotten, want one more", got)
	}
	c.advance(hitTTL)
	c.want("neu@corp.example", policy.Entry{Known: true})
	if got := searches.Load(); got != 4 {
		t.Errorf("%d searches after the hits were forgotten, want one more", got)
	}
	for i := range 3 * maxCached {
		a, err := address.Parse(fmt.Sprintf("a%d@corp.example", i))
		c.must(err)
		c.cacheResult(question{address: a}, policy.Entry{})
	}
	if got := len(c.cache); got > maxCached {
		t.Errorf("%d answers are remembered", got)
	}
}

// TestConfirmedUntilNextPass checks that a hit is cached until the first good pass that started after it. The
// directory is then queried again, because the address may be removed, or the followed controller may not have
// it yet.
func TestConfirmedUntilNextPass(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*confirming, adsim.GUID)
		want   policy.Entry
	}{
		{"removed since", func(c *confirming, guid adsim.GUID) { c.must(c.d2.Delete(guid)) }, policy.Entry{}},
		{"known to the other controller only", func(*confirming, adsim.GUID) {}, policy.Entry{Known: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newConfirming(t, nil)
			guid := w.newUser("Neu", "smtp:neu@corp.example")
			w.start()
			w.want("neu@corp.example", policy.Entry{Known: true})
			c.change(w, guid)
			w.want("neu@corp.example", policy.Entry{Known: true}) // no pass yet
			busy := func(f adsim.Faults) { w.server.SetFaults(f); w.second.SetFaults(f) }
			busy(adsim.Faults{SearchResult: 51})
			w.advance(time.Second)
			if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
				t.Fatal("the pass succeeded")
			}
			w.want("neu@corp.example", policy.Entry{Known: true}) // a failed pass proves nothing
			busy(adsim.Faults{})
			w.advance(time.Second)
			w.pass(store.Incremental)
			w.want("neu@corp.example", c.want)
		})
	}
}

// TestConfirmedWithoutAnswer checks that a hit that a pass has ended still counts until it expires, if the
// directory cannot be queried again. The followed controller may lag behind, and a recipient that was just
// accepted must not get 550.
func TestConfirmedWithoutAnswer(t *testing.T) {
	w := newConfirming(t, func(c *confirming, m *Config, cc *ConfirmConfig) {
		cc.PerSecond = 2
		at := time.Now()
		cc.Now = func() time.Time { return at.Add(time.Duration(c.offset.Load())) }
		m.Now = cc.Now
	})
	w.newUser("Neu", "smtp:neu@corp.example")
	w.start()
	w.want("neu@corp.example", policy.Entry{Known: true})
	w.advance(time.Second)
	w.pass(store.Incremental) // from the controller that lags behind
	w.want("guess1@corp.example", policy.Entry{})
	w.want("guess2@corp.example", policy.Entry{})
	w.wantError("guess3@corp.example", ErrOverBudget)
	w.want("neu@corp.example", policy.Entry{Known: true})
	w.advance(hitTTL)
	for range 2 {
		w.want("guess1@corp.example", policy.Entry{})
		w.want("guess2@corp.example", policy.Entry{})
	}
	w.wantError("neu@corp.example", ErrOverBudget)
}

func TestConfirmerConfig(t *testing.T) {
	w := newWorld(t, nil)
	good := ConfirmConfig{Directories: []ConfirmDirectory{{Mirror: w.mirror}}, Timeout: 1, PerSecond: 1}
	for want, change := range map[string]func(*ConfirmConfig){
		"confirm: no directories":                      func(c *ConfirmConfig) { c.Directories = nil },
		"confirm: timeout must be positive, got 0s":    func(c *ConfirmConfig) { c.Timeout = 0 },
		"confirm: per_second must be positive, got 0":  func(c *ConfirmConfig) { c.PerSecond = 0 },
		"confirm: per_second must be positive, got -1": func(c *ConfirmConfig) { c.PerSecond = -1 },
	} {
		t.Run(want, func(t *testing.T) {
			config := good
			change(&config)
			if _, err := NewConfirmer(config); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// scriptedSource is a source that answers only Find and Root.
type scriptedSource struct {
	Source
	objects []directory.Object
	err     error
	silent  bool
}

func (s scriptedSource) Find(ctx context.Context, _ address.Address) ([]directory.Object, error) {
	if s.silent {
		<-ctx.Done()
		return nil, directory.ErrTimeout
	}
	return s.objects, s.err
}

func (scriptedSource) Root(context.Context) (directory.Root, error) {
	return directory.Root{InvocationID: directory.GUID{1}, DNSHostName: "dc9.lab.example"}, nil
}

func (scriptedSource) Close() error { return nil }

// TestConfirmInSeveralDirectories checks that only directories that may own the domain are queried. An owner in
// one of them is sufficient; a negative answer needs all of them.
func TestConfirmInSeveralDirectories(t *testing.T) {
	owner := func(restricted bool) scriptedSource {
		return scriptedSource{objects: []directory.Object{{Classes: []string{"user"}, DN: "CN=x",
			InternalOnly: restricted,
			Values:       []directory.Value{{Attribute: "mail", Raw: "x@shared.example"}}}}}
	}
	open, closed, none := owner(false), owner(true), scriptedSource{}
	fails, silent := scriptedSource{err: directory.ErrTimeout}, scriptedSource{silent: true}
	yes, restricted := policy.Entry{Known: true}, policy.Entry{Known: true, InternalOnly: true}
	for _, c := range []struct {
		name          string
		domain        string // domain that the second directory may own
		first, second scriptedSource
		want          policy.Entry
		err           error
	}{
		{"no owner", "shared.example", none, none, policy.Entry{}, nil},
		{"owner in the second", "shared.example", none, open, yes, nil},
		{"internal-only in the first", "shared.example", closed, none, restricted, nil},
		{"internal-only and open", "shared.example", closed, open, yes, nil},
		{"internal-only in both", "shared.example", closed, closed, restricted, nil},
		{"first fails, owner in the second", "shared.example", fails, open, yes, nil},
		{"first fails, internal-only in the second", "shared.example", fails, closed, restricted, nil},
		{"first is silent, owner in the second", "shared.example", silent, open, yes, nil}, // without waiting
		{"first fails, no owner in the second", "shared.example", fails, none, policy.Entry{}, ErrUnanswered},
		{"both fail", "shared.example", fails, fails, policy.Entry{}, ErrUnanswered},
		{"the second may not own it", "other.example", none, open, policy.Entry{}, nil},
		{"the second may not own it, and fails", "other.example", none, fails, policy.Entry{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []ConfirmDirectory
			for i, source := range []scriptedSource{c.first, c.second} {
				w := newWorld(t, func(_ *world, m *Config) { m.Rules.InternalOnly = true })
				w.mirror.signalReached()
				w.mirror.knownCandidates = []Candidate{{Name: "scripted",
					Dial: func(context.Context) (Source, error) { return source, nil }}}
				d := ConfirmDirectory{Mirror: w.mirror}
				if i == 1 {
					d.MayOwn = func(domain string) bool { return domain == c.domain }
				}
				list = append(list, d)
			}
			confirmer, err := NewConfirmer(ConfirmConfig{Directories: list, Timeout: forAnswer, PerSecond: 10})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- confirmer.Run(ctx) }()
			for _, a := range confirmer.workers {
				for !a.connected.Load() { // takes a moment
					runtime.Gosched()
				}
			}
			a, _ := address.Parse("x@shared.example")
			if got, err := confirmer.Confirm(ctx, a, false); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("Confirm = %+v, %v, want %+v, %v", got, err, c.want, c.err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got, err := confirmer.Confirm(t.Context(), address.Address{}, false); !errors.Is(err, ErrUnanswered) {
				t.Errorf("after the end: %+v, %v", got, err)
			}
		})
	}
}

// newScriptedConfirmer returns a confirmer of directories with these sources, which is connected to all.
func newScriptedConfirmer(t *testing.T, sources map[string]scriptedSource, perSecond float64) *Confirmer {
	t.Helper()
	var list []ConfirmDirectory
	for name, source := range sources {
		w := newWorld(t, func(_ *world, m *Config) { m.Name = name })
		w.mirror.signalReached()
		w.mirror.knownCandidates = []Candidate{{Name: "scripted",
			Dial: func(context.Context) (Source, error) { return source, nil }}}
		list = append(list, ConfirmDirectory{Mirror: w.mirror})
	}
	c, err := NewConfirmer(ConfirmConfig{Directories: list, Timeout: forAnswer, PerSecond: perSecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	for _, a := range c.workers {
		for !a.connected.Load() { // takes a moment
			runtime.Gosched()
		}
	}
	return c
}

// hasShared is a source that has x@shared.example.
var hasShared = scriptedSource{objects: []directory.Object{{Classes: []string{"user"}, DN: "CN=x",
	Values: []directory.Value{{Attribute: "mail", Raw: "x@shared.example"}}}}}

// TestConfirmInOneDirectory checks that ConfirmIn finds the addresses of its directory only, whatever the others have,
// also if they do not answer and if an answer of all directories is cached.
func TestConfirmInOneDirectory(t *testing.T) {
	c := newScriptedConfirmer(t, map[string]scriptedSource{"first": {}, "second": hasShared,
		"fails": {err: directory.ErrTimeout}}, 100)
	a, _ := address.Parse("x@shared.example")
	yes, no := policy.Entry{Known: true}, policy.Entry{}
	for _, q := range []struct {
		directory string // empty: all
		want      policy.Entry
		err       error
	}{
		{"first", no, nil}, {"second", yes, nil}, {"", yes, nil}, {"first", no, nil}, {"third", no, nil},
		{"fails", no, ErrUnanswered}, {"second", yes, nil}, {"first", no, nil},
	} {
		got, err := c.ConfirmIn(t.Context(), q.directory, a)
		if q.directory == "" {
			got, err = c.Confirm(t.Context(), a, false)
		}
		if got != q.want || !errors.Is(err, q.err) {
			t.Errorf("in %q: %+v, %v, want %+v, %v", q.directory, got, err, q.want, q.err)
		}
	}
}

// TestBudgetOfSeveralDirectories checks that an edge that asks for an address in each of its directories uses the
// budget once, and that it can ask in each of them once for that.
func TestBudgetOfSeveralDirectories(t *testing.T) {
	c := newScriptedConfirmer(t, map[string]scriptedSource{"first": {}, "second": hasShared, "third": {}}, 0.1)
	began := time.Now()
	for i, q := range []struct {
		after           time.Duration // since the start; one search is permitted each 10 seconds
		directory, text string        // no directory: all
		err             error
	}{
		{0, "first", "x@shared.example", nil},
		{0, "second", "x@shared.example", nil},
		{0, "first", "x@shared.example", nil}, // remembered
		{0, "first", "y@shared.example", ErrOverBudget},
		{0, "second", "y@shared.example", ErrOverBudget},
		{0, "", "x@shared.example", ErrOverBudget},
		{missTTL, "first", "x@shared.example", ErrOverBudget}, // used up
		{missTTL, "third", "x@shared.example", ErrOverBudget}, // too late
		{11 * time.Second, "third", "y@shared.example", nil},
		{11 * time.Second, "first", "y@shared.example", nil},
	} {
		c.config.Now = func() time.Time { return began.Add(q.after) }
		a, _ := address.Parse(q.text)
		_, err := c.confirm(t.Context(), question{a, q.directory}, false)
		if !errors.Is(err, q.err) {
			t.Errorf("question %d, for %s in %q: %v, want %v", i+1, q.text, q.directory, err, q.err)
		}
	}
	for i := range 3 * maxCached {
		a, err := address.Parse(fmt.Sprintf("a%d@shared.example", i))
		if err != nil {
			t.Fatal(err)
		}
		c.payForOthers(question{a, "first"}, began)
	}
	if got := len(c.paid); got > maxCached {
		t.Errorf("%d payments are remembered", got)
	}
}

// TestConfirmCachesInternalOnlyAsMisses checks that requests for an internal-only recipient cost as many
// searches as those for an unknown one, at any time, with and without passes.
func TestConfirmCachesInternalOnlyAsMisses(t *testing.T) {
	c := newConfirming(t, func(_ *confirming, m *Config, _ *ConfirmConfig) { m.Rules = Rules{InternalOnly: true} })
	c.new(adsim.Group, "CN=Board,"+people, adsim.Attrs{"proxyAddresses": {"smtp:board@corp.example"},
		"msExchRequireAuthToSendTo": {"TRUE"}})
	c.start()
	searches := watch(c.second, adsim.Faults{})
	cost := func(text string, want policy.Entry) int64 {
		before := searches.Load()
		c.want(text, want)
		return searches.Load() - before
	}
	for step, wait := range []time.Duration{0, 0, missTTL - 2*time.Second, 2 * time.Second, time.Second, missTTL,
		hitTTL - time.Second, hitTTL} {
		c.advance(wait)
		if step%2 == 1 {
			c.pass(store.Incremental)
		}
		unknown := cost("nobody@corp.example", policy.Entry{})
		internal := cost("board@corp.example", policy.Entry{Known: true, InternalOnly: true})
		if internal != unknown {
			t.Errorf("step %d, %v later: %d searches for the internal-only recipient, %d for the unknown one", step,
				wait, internal, unknown)
		}
	}
}
