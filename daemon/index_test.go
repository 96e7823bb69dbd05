package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control/metrics"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// newDamagedStore returns two stores with an open, an internal-only, a recently removed and a long removed
// address. In the first, a verification has found damage in a part of its log that no lookup needs.
func newDamagedStore(t *testing.T) (damaged, sound *store.Store) {
	t.Helper()
	dir := t.TempDir()
	fill := func(config store.Config) *store.Store {
		s, err := store.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		addAddresses(t, s, "corp", "known@corp.example", "!inside@corp.example", "gone@corp.example",
			"filler@filler.example")
		return s
	}
	damaged, sound = fill(store.Config{Dir: dir}), fill(store.Config{Dir: t.TempDir()})
	for _, s := range []*store.Store{damaged, sound} {
		remove(t, s, "corp", 3)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs: %v, %v", logs, err)
	}
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, []byte("filler@filler.example"))
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(log, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{'F'}, int64(at)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := damaged.Verify(); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("Verify: %v, want damage", err)
	}
	return damaged, sound
}

// remove makes an object of a directory lose its addresses.
func remove(t *testing.T, s *store.Store, directory string, id byte) {
	t.Helper()
	pass, err := s.Begin(directory, store.Incremental, store.Origin{Controller: "dc1", Started: noon})
	if err != nil {
		t.Fatal(err)
	}
	o := store.Object{Class: "user", DN: base}
	o.GUID[0] = id
	if _, err := pass.Apply([]store.Object{o}); err != nil {
		t.Fatal(err)
	}
	if info, err := pass.Commit(store.Outcome{Ended: noon}); err != nil || info.Removed == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
}

// TestDamagedStoreRejectsNobody checks that no answer from a damaged store is permanent, and that its known
// recipients are still accepted.
func TestDamagedStoreRejectsNobody(t *testing.T) {
	damaged, sound := newDamagedStore(t)
	outcome := func(s *store.Store, now time.Time, fallback policy.Fallback, recipient, user string) policy.Outcome {
		t.Helper()
		p, err := policy.New(policy.Config{Index: index{store: s}, RemovalGrace: time.Hour,
			Domains:   map[string]policy.Mode{"corp.example": policy.ModeEnforce},
			WhenStale: fallback, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		d := p.Decide(t.Context(), policy.Query{Recipient: recipient, Authenticated: user})
		if d.Outcome() == policy.Deferred && s == damaged && !errors.Is(d.Err, store.ErrDamaged) {
			t.Errorf("%s: deferred because of %v, want the damage", recipient, d.Err)
		}
		return d.Outcome()
	}
	for _, c := range []struct {
		recipient, user string
		later           time.Duration
		damaged, sound  policy.Outcome
	}{
		{"known@corp.example", "", 0, policy.Accepted, policy.Accepted},
		{"inside@corp.example", "", 0, policy.Deferred, policy.Refused},
		{"inside@corp.example", "ann", 0, policy.Accepted, policy.Accepted},
		{"never@corp.example", "", 0, policy.Deferred, policy.Refused},
		{"never@corp.example", "ann", 0, policy.Deferred, policy.Refused},
		{"gone@corp.example", "", time.Minute, policy.Deferred, policy.Deferred},
		{"gone@corp.example", "", 2 * time.Hour, policy.Deferred, policy.Refused},
	} {
		for _, fallback := range []policy.Fallback{policy.FallbackTempfail, policy.FallbackRefuse,
			policy.FallbackAccept} {
			now := noon.Add(c.later)
			if got := outcome(damaged, now, fallback, c.recipient, c.user); got != c.damaged {
				t.Errorf("damaged: %s from %q after %v (%s): %s, want %s", c.recipient, c.user, c.later, fallback, got,
					c.damaged)
			}
			if got := outcome(sound, now, fallback, c.recipient, c.user); got != c.sound {
				t.Errorf("sound: %s from %q after %v (%s): %s, want %s", c.recipient, c.user, c.later, fallback, got,
					c.sound)
			}
		}
	}
}

// TestFreshnessOfSharedDomains checks that the worst of the directories that may own a domain decides, and no other
// directory.
func TestFreshnessOfSharedDomains(t *testing.T) {
	for _, c := range []struct {
		name string
		read bool          // lab has been read
		age  time.Duration // since both were read
		own  []string      // domains of lab
		want policy.State
		from string
	}{
		{"both fresh", true, 0, nil, policy.Fresh, "corp"},
		{"one was never read", false, 0, nil, policy.NotReady, "lab"},
		{"one was never read, which may own another domain", false, 0, []string{"lab.example"}, policy.Fresh, "corp"},
		{"one was never read, which may own the domain, too", false, 0, []string{"lab.example", "corp.example"},
			policy.NotReady, "lab"},
		{"one is late", true, 6 * time.Minute, nil, policy.Late, "lab"},
		{"one is stale", true, 31 * time.Minute, nil, policy.Stale, "lab"},
		{"one is stale, which may own another domain", true, 31 * time.Minute, []string{"lab.example"}, policy.Fresh,
			"corp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTestStore(t)
			syncs := newSyncManager(s, metrics.New("test"), slog.New(slog.DiscardHandler))
			var set directorySet
			clock := time.Now()
			for _, name := range []string{"corp", "lab"} {
				ad, _, d := newTestDirectory(t)
				if _, err := ad.Add(adsim.User, "CN=jane,CN=Users,"+base,
					adsim.Attrs{"mail": {"jane@corp.example"}}); err != nil {
					t.Fatal(err)
				}
				d.Name = name
				limits := &config.Config{LateAfter: 5 * time.Minute, StaleAfter: 30 * time.Minute}
				mc := syncs.mirrorConfig(limits, d, nil)
				mc.Now = func() time.Time { return clock }
				m, err := mirror.New(mc)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				if name == "lab" {
					d.Domains = c.own
				}
				set = append(set, syncedDirectory{m, d})
			}
			pass := func(n int) {
				t.Helper()
				if r := set[n].Pass(t.Context(), false); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			if c.read {
				pass(1)
			}
			clock = clock.Add(c.age)
			pass(0)
			got := index{s, set, fileAges{}}.Freshness("corp.example")
			if got.State != c.want || got.Directory != c.from {
				t.Errorf("%s because of %s, want %s because of %s", got.State, got.Directory, c.want, c.from)
			}
		})
	}
}
