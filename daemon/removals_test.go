package daemon

import (
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
)

// TestRemovalsOfOtherRules: what was held under other rules waits for the next pass, not for an
// approval, and an approval returns an error. Afterwards it waits for an approval.
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
	check("under the rules of the mirror", control.WaitsPass, "directory corp: the rules for recipients have changed", 0)
	if r := retired.Pass(); r.Err != nil || r.Info.Hold == "" {
		t.Fatalf("the pass of the retired directory: %+v", r)
	}
	check("after the next pass", control.WaitsApproval, "", 1)
}
