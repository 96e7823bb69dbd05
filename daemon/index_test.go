package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/policy"
	"rcpt-milter/store"
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
