package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// TestRemovalsOfOtherRules checks that removals held under other rules wait for the next pass, and that an
// approval before it returns an error. After the pass, they wait for an approval.
func TestRemovalsOfOtherRules(t *testing.T) {
	s := newTestStore(t)
	addAddresses(t, s, "corp", "ann@corp.example")
	pass, err := s.Begin("corp", store.Full, store.Origin{Controller: "dc1", Started: noon, Rules: "old"})
	if err != nil {
		t.Fatal(err)
	}
	if err := pass.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := pass.Commit(store.Outcome{Fingerprint: "old", Ended: noon, Hold: "too many"}); err != nil {
		t.Fatal(err)
	}
	log, _ := newTestLog()
	retired := mirror.NewRetiredDirectory(mirror.RetiredConfig{Name: "corp", Store: s, Log: log,
		Guard: mirror.Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: time.Hour}})
	syncs := newSyncManager(s, nil, log)
	syncs.retired = []*mirror.RetiredDirectory{retired}
	b := backend{&daemon{store: s, syncs: syncs}, noon, func() time.Time { return noon.Add(time.Hour) }}
	check := func(what, waitsFor, refused string, removed int64) {
		t.Helper()
		err := b.Removals(t.Context(), control.RemovalsQuery{}, func(h control.HeldRemoval) error {
			if h.WaitsFor != waitsFor {
				t.Errorf("%s: %s waits for %q, want %q", what, h.Address, h.WaitsFor, waitsFor)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		var done []control.RemovalsDone
		err = b.Approve(t.Context(), control.RemovalsQuery{}, func(d control.RemovalsDone) { done = append(done, d) })
		if refused == "" && (err != nil || len(done) != 1 || done[0].Removed != removed) ||
			refused != "" && (err == nil || !strings.Contains(err.Error(), refused) || len(done) != 0) {
			t.Errorf("%s: approval: %+v, %v, want %d removed, error %q", what, done, err, removed, refused)
		}
	}
	check("under the rules of the mirror", control.WaitsPass, "directory corp: the rules for recipients have changed",
		0)
	if r := retired.Pass(); r.Err != nil || r.Info.Hold == "" {
		t.Fatalf("the pass of the retired directory: %+v", r)
	}
	check("after the next pass", control.WaitsApproval, "", 1)
}

// TestRemovalsWhoseWaitIsOver checks a removal that waits while others are held. When its wait has run out, it
// waits for the next pass, which judges it, and an approval before that leaves it.
func TestRemovalsWhoseWaitIsOver(t *testing.T) {
	s := newTestStore(t)
	read := func(controller string, at time.Time, hold string, addresses ...string) {
		t.Helper()
		pass, err := s.Begin("corp", store.Full, store.Origin{Controller: controller, Database: controller, Started: at,
			Lag: time.Hour, Rules: "rules"})
		if err != nil {
			t.Fatal(err)
		}
		defer pass.Abort()
		var objects []store.Object
		for i, text := range addresses {
			a, err := address.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, store.Object{GUID: store.GUID{15: byte(i + 1)}, Class: "user", DN: "CN=" + text,
				Addresses: []store.Owned{{Address: a, Attribute: "mail"}}})
		}
		if _, err := pass.Apply(objects); err != nil {
			t.Fatal(err)
		}
		if err := pass.Sweep(); err != nil {
			t.Fatal(err)
		}
		if _, err := pass.Commit(store.Outcome{Fingerprint: "rules", Ended: at, Hold: hold}); err != nil {
			t.Fatal(err)
		}
	}
	read("dc1", noon, "", "ann@corp.example", "bob@corp.example")
	read("dc2", noon.Add(30*time.Minute), "too many", "ann@corp.example")
	now := noon
	syncs := newSyncManager(s, nil, nil)
	b := backend{&daemon{store: s, syncs: syncs}, noon, func() time.Time { return now }}
	log, _ := newTestLog()
	k := mirror.NewRetiredDirectory(mirror.RetiredConfig{Name: "corp", Store: s, Log: log})
	for _, c := range []struct {
		name  string
		after time.Duration
		want  string
	}{
		{"before the lag", 59 * time.Minute, control.WaitsReplication},
		{"after the lag", 61 * time.Minute, control.WaitsPass},
	} {
		t.Run(c.name, func(t *testing.T) {
			now = noon.Add(c.after)
			var got []string
			err := b.heldIn(heldUnderAnyRules{k}, func(h control.HeldRemoval) error {
				got = append(got, h.Address+" "+h.WaitsFor)
				return nil
			})
			if want := "bob@corp.example " + c.want; err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("the list has %q, %v, want %q", got, err, want)
			}
		})
	}
}

// heldUnderAnyRules is a directory whose held removals are never outdated.
type heldUnderAnyRules struct{ directorySyncer }

func (heldUnderAnyRules) Outdated() error { return nil }

// TestCancelledApproval checks that an operator who gives up in one directory leaves the others as they are.
func TestCancelledApproval(t *testing.T) {
	for _, action := range []string{"approve", "discard"} {
		t.Run(action, func(t *testing.T) {
			s := newTestStore(t)
			log, _ := newTestLog()
			syncs := newSyncManager(s, nil, log)
			for _, name := range []string{"corp", "lab"} {
				addAddresses(t, s, name, "ann@"+name+".example")
				k := mirror.NewRetiredDirectory(mirror.RetiredConfig{Name: name, Store: s, Log: log,
					Guard: mirror.Guard{Percent: 5, Count: 50, Max: 500, Share: 30, Window: time.Hour}})
				if r := k.Pass(); r.Err != nil || r.Info.Hold == "" {
					t.Fatalf("the pass of %s: %+v, want it held", name, r)
				}
				syncs.retired = append(syncs.retired, k)
			}
			b := backend{&daemon{store: s, syncs: syncs}, noon, func() time.Time { return noon }}
			settle := b.Approve
			if action == "discard" {
				settle = b.Discard
			}
			ctx, cancel := context.WithCancel(t.Context())
			var done []string
			err := settle(ctx, control.RemovalsQuery{}, func(d control.RemovalsDone) {
				done = append(done, d.Directory)
				cancel()
			})
			if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "directory lab") || len(done) != 1 {
				t.Errorf("settled %q, %v, want the first one and %v", done, err, context.Canceled)
			}
			if d := s.Directory("lab"); d.Hold == "" || d.Marked != 1 {
				t.Errorf("lab: %d objects with marks, held because %q", d.Marked, d.Hold)
			}
		})
	}
}
