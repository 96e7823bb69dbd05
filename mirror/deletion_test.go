package mirror

import (
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// TestDeathOfWrongClocks checks that the time of a deletion is used only if the clocks may have been right.
func TestDeathOfWrongClocks(t *testing.T) {
	here, other := directory.GUID{1}, directory.GUID{2}
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		at    directory.GUID // controller where it was deleted
		clock time.Duration  // offset of the controller's clock from ours
		age   time.Duration  // age of the deletion by the controller's clock
		read  time.Duration  // time of the read after the start of the pass
		after time.Duration  // the object was alive this long before the pass started; zero means unknown
	}{
		"here":                                 {here, 0, time.Hour, 0, time.Hour + clockStep},
		"elsewhere":                            {other, 0, time.Hour, 0, time.Hour + clockStep + clockSkew},
		"our clock is wrong":                   {here, 5 * time.Hour, time.Hour, 0, time.Hour + clockStep},
		"elsewhere, a little ahead":            {other, 0, -5 * time.Minute, 0, 5*time.Minute + clockStep},
		"elsewhere, hours ahead":               {other, 0, -3 * time.Hour, 0, 0},
		"here, before its clock was set back":  {here, 0, -3 * time.Hour, 0, 0},
		"while a long pass runs":               {other, 0, -time.Hour, time.Hour, -time.Hour + clockStep + clockSkew},
		"hours ahead, while a long pass runs":  {other, 0, -4 * time.Hour, time.Hour, 0},
		"while a long pass runs, wrong clocks": {here, -5 * time.Hour, -time.Hour, time.Hour, -time.Hour + clockStep},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Mirror{config: Config{Now: func() time.Time { return started.Add(c.read) }}}
			r := &passRun{m: m, started: started, root: directory.Root{InvocationID: here, Now: started.Add(c.clock)}}
			o := directory.Object{Deleted: true}
			o.Deletion.Database, o.Deletion.USN, o.Deletion.Time = c.at, 7, r.root.Now.Add(-c.age)
			want := started.Add(-c.after)
			if c.after == 0 {
				want = time.Time{}
			}
			if got := r.deletionTime(o); !got.After.Equal(want) || got.USN != 7 {
				t.Errorf("deleted after %v, want %v", got.After, want)
			}
		})
	}
}

func TestBlindToDeletions(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	bob := w.user("Bob", "bob@corp.example")
	w.d.WithholdDeleted(true)
	w.pass(store.Full)
	if s := w.mirror.Status(); !s.DeletedHidden ||
		!strings.Contains(strings.Join(s.GrantCommands, "\n"),
			`"CN=Deleted Objects,DC=corp,DC=example" /G "ACCOUNT:LCRP"`) {
		t.Errorf("status does not say that deletions cannot be seen: %t, %q", s.DeletedHidden, s.GrantCommands)
	}
	w.must(w.d.Delete(bob))
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.advance(deletedHiddenFullInterval)
	if info := w.pass(store.Full); !strings.Contains(info.Why, "deleted objects") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	w.d.WithholdDeleted(false)
	w.pass(store.Incremental)
	if s := w.mirror.Status(); s.DeletedHidden || len(s.GrantCommands) > 0 {
		t.Error("status still says that deletions cannot be seen")
	}
}

// TestSightComesBack checks an account that gains the permission to see deleted objects. Its earlier passes
// skipped the tombstones, so a full pass is required.
func TestSightComesBack(t *testing.T) {
	w := newWorld(t, nil)
	w.user("Ann", "ann@corp.example")
	bob, cid := w.user("Bob", "bob@corp.example"), w.user("Cid", "cid@corp.example")
	w.pass(store.Full)
	w.d.WithholdDeleted(true)
	w.must(w.d.Delete(bob))
	w.pass(store.Incremental)
	w.must(w.d.Delete(cid))
	w.restart()
	w.pass(store.Incremental)
	w.d.WithholdDeleted(false)
	if info := w.pass(store.Full); !strings.Contains(info.Why, "could not be seen") {
		t.Errorf("full pass because %q", info.Why)
	}
	w.wantEqual()
	w.pass(store.Incremental)
}
