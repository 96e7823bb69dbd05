package mirror

import (
	"testing"
	"time"

	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// guardedPair returns two controllers with a guard. Only dc1 has the object New.
func guardedPair(t *testing.T, change func(*Config)) (*world, *adsim.Directory, *adsim.Server) {
	w, d2, s2 := two(t, func(w *world, c *Config) {
		c.Guard = usualGuard
		if change != nil {
			change(c)
		}
	})
	w.user("Ann", "ann@corp.example")
	w.add(adsim.User, "CN=Left,OU=Left,DC=corp,DC=example", "left@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.advance(time.Minute)
	w.user("New", "new@corp.example")
	w.pass(store.Incremental)
	w.advance(time.Minute)
	return w, d2, s2
}

var allOfPair = []string{"ann@corp.example", "left@corp.example", "new@corp.example"}

// TestMarkOfARetiredDirectory removes the directory from the configuration by mistake, so its removals are
// held. It is configured again, and the mirror reaches a lagging controller.
func TestMarkOfARetiredDirectory(t *testing.T) {
	w, _, _ := guardedPair(t, nil)
	if info := w.retirePass(w.retire(usualGuard)); info.Hold == "" {
		t.Fatalf("not held: %+v", info)
	}
	w.advance(time.Minute)
	w.server.Down()
	w.restart()
	w.pass(store.Full)
	w.wantKnown(allOfPair...)
	w.advance(3 * time.Hour)
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "left@corp.example")
}

// TestMarkOfOtherRules holds removals in the same way with rules that were wrong for a minute.
func TestMarkOfOtherRules(t *testing.T) {
	for name, wrong := range map[string]func(*Rules){
		"bases":      func(r *Rules) { r.Bases = []string{elsewhere} },
		"attributes": func(r *Rules) { r.Attributes = []string{"mail"} },
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := guardedPair(t, func(c *Config) {
				c.Canaries = fixedCanaries(mustParse(t,
					"ann@corp.example"))
			})
			w.add(adsim.User, "CN=Mail,"+people)
			w.must(w.d.Modify(w.user("Mailed"), adsim.Set("mail", "mailed@corp.example")))
			w.pass(store.Incremental)
			right := w.config.Rules
			wrong(&w.config.Rules)
			w.restart()
			if info := w.pass(store.Full); info.Hold == "" {
				t.Fatalf("not held: %+v", info)
			}
			w.advance(time.Minute)
			w.config.Rules = right
			w.restart()
			w.server.Down()
			w.pass(store.Full)
			w.wantKnown(append([]string{"mailed@corp.example"}, allOfPair...)...)
			w.advance(time.Hour)
			w.pass(store.Incremental)
			w.wantKnown(append([]string{"mailed@corp.example"}, allOfPair...)...)
		})
	}
}

// TestMarkOfOtherRulesForHours uses wrong rules for hours. Meanwhile, New loses its address at dc1 and gets it
// back, which no read with the wrong rules shows. dc2 has only the first of these changes.
func TestMarkOfOtherRulesForHours(t *testing.T) {
	w, d2, _ := guardedPair(t, nil)
	w.config.Canaries = fixedCanaries(mustParse(t, "ann@corp.example"))
	w.config.Rules.Bases = []string{elsewhere}
	w.restart()
	if info := w.pass(store.Full); info.Hold == "" {
		t.Fatalf("not held: %+v", info)
	}
	w.advance(5 * time.Hour)
	entry, err := w.d.Lookup("CN=New," + people)
	w.must(err)
	w.set(entry.GUID)
	d2.ReplicateFrom(w.d, 0)
	w.set(entry.GUID, "new@corp.example")
	w.pass(store.Incremental)
	w.config.Rules.Bases, w.config.Canaries = nil, nil
	w.restart()
	w.advance(time.Minute)
	w.server.Down()
	w.pass(store.Full)
	w.wantKnown(allOfPair...)
	w.advance(3 * time.Hour)
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "left@corp.example")
}

// TestMarkOfAnotherController checks an address that both controllers lack, and whose removal the guard holds
// since the pass at dc1. The mark is judged by what dc2 may not have yet, and an approval of the removals at
// dc1 still includes it.
func TestMarkOfAnotherController(t *testing.T) {
	w, d2, _ := guardedPair(t, func(c *Config) { c.Canaries = fixedCanaries(mustParse(t, "ann@corp.example")) })
	ann, err := w.d.Lookup("CN=Ann," + people)
	w.must(err)
	w.set(ann.GUID)
	held := w.pass(store.Incremental)
	if held.Hold == "" {
		t.Fatalf("not held: %+v", held)
	}
	w.advance(time.Minute)
	d2.ReplicateFrom(w.d, 0)
	w.server.Down()
	if info := w.pass(store.Full); info.Hold != "" || info.Removed > 0 {
		t.Errorf("dc2, which may not know yet: %+v", info)
	}
	w.wantKnown(allOfPair...)
	w.advance(3 * time.Hour)
	if info := w.pass(store.Incremental); info.Hold == "" {
		t.Errorf("after the lag: %+v, want it held again", info)
	}
	info, err := w.store.Approve("corp", held.Number, w.mirror.fingerprint, w.now())
	if err != nil || info.Removed != 1 {
		t.Errorf("approval of what was seen in pass %d: %+v, %v", held.Number, info, err)
	}
	w.wantKnown("left@corp.example", "new@corp.example")
}

// TestControllersInTurns checks that a removal takes effect although the controller changes more than once
// within the lag.
func TestControllersInTurns(t *testing.T) {
	w, d2, s2 := two(t, nil)
	w.user("Ann", "ann@corp.example")
	gone := w.user("Gone", "gone@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	w.set(gone)
	d2.ReplicateFrom(w.d, 0)
	for turn := range 8 {
		w.advance(30 * time.Minute)
		if turn%2 == 0 {
			w.server.Down()
			w.must(s2.Up())
		} else {
			w.must(w.server.Up())
			s2.Down()
		}
		w.pass(store.Full)
		if known := w.knows("gone@corp.example"); known != (turn < 5) {
			t.Errorf("after %d minutes: known %t", 30*(turn+1), known)
		}
	}
	w.wantKnown("ann@corp.example")
}
