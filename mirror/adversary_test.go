package mirror

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// These tests add unusual behaviour of a directory to those in mirror_test.go.

// TestOutOfTheBasesAndBack moves an object out of the bases and back between two passes.
func TestOutOfTheBasesAndBack(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.must(w.d.Move(ann, "OU=Left,DC=corp,DC=example"))
	w.must(w.d.Move(ann, people))
	if info := w.pass(store.Incremental); info.Seen != 1 || info.Changed != 0 {
		t.Errorf("pass over an object that came back: %+v", info)
	}
	w.wantKnown("ann@corp.example", "bob@corp.example")
}

// TestUndeletedElsewhere uses the recycle bin. A deleted object keeps its addresses but owns none of them. It
// owns them again when it is restored under another name and parent.
func TestUndeletedElsewhere(t *testing.T) {
	w := newWorld(t, nil)
	w.d.SetRecycleBin(true)
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	w.must(w.d.Delete(ann))
	w.pass(store.Incremental)
	w.wantKnown("bob@corp.example")
	w.must(w.d.Undelete(ann, "OU=Left,DC=corp,DC=example"))
	w.must(w.d.Rename(ann, "Anne"))
	w.pass(store.Incremental)
	w.wantEqual()
	// Deleted and restored between two passes: nothing has happened.
	w.must(w.d.Delete(ann))
	w.must(w.d.Undelete(ann, ""))
	if info := w.pass(store.Incremental); info.Changed != 0 {
		t.Errorf("pass over an object that was back already: %+v", info)
	}
	// Deleted permanently while its addresses are still readable in the recycle bin: a full pass must not treat
	// it as live.
	w.must(w.d.Delete(ann))
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil {
		t.Fatal(r.Err)
	}
	w.wantKnown("bob@corp.example")
}

// TestMoveInAFailedPass moves an address from one object to another. The pass reads the new
// owner and fails before the old one; the next pass reads both.
func TestMoveInAFailedPass(t *testing.T) {
	for _, gainsFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("gains first %t", gainsFirst), func(t *testing.T) {
			w := newWorld(t, nil)
			var others []adsim.GUID
			for i := range 4 {
				others = append(others, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
			}
			from, to := w.user("From", "from@corp.example", "desk@corp.example"), w.user("To", "to@corp.example")
			if !gainsFirst {
				from, to = to, from
				w.set(from, "from@corp.example", "desk@corp.example")
				w.set(to, "to@corp.example")
			}
			w.pass(store.Full)
			w.set(from, "from@corp.example")
			for _, guid := range others { // places the two objects on different pages
				w.must(w.d.Touch(guid))
			}
			w.set(to, "to@corp.example", "desk@corp.example")
			w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
			if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
				t.Fatal("a pass that was cut off is good")
			}
			if !w.knows("desk@corp.example") {
				t.Errorf("gains first %t: the address is unknown after the failed pass", gainsFirst)
			}
			w.server.SetFaults(adsim.Faults{})
			w.pass(store.Incremental)
			w.wantEqual()
		})
	}
}

// TestSwappedAddresses swaps addresses between two objects after a full pass has read one of them.
func TestSwappedAddresses(t *testing.T) {
	w := newWorld(t, nil)
	early := w.user("Early", "a@corp.example")
	for i := range 6 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	late := w.user("Late", "b@corp.example")
	w.pass(store.Full)
	swapped := false
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		for _, a := range []string{"a@corp.example", "b@corp.example"} {
			if !w.knows(a) {
				t.Errorf("%s is unknown before page %d", a, s.Page)
			}
		}
		if s.Scope == 2 && s.Page == 2 && !swapped {
			swapped = true
			w.set(early, "b@corp.example")
			w.set(late, "a@corp.example")
		}
	}})
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || !swapped {
		t.Fatalf("full pass: %v, swapped %t", r.Err, swapped)
	}
	w.server.SetFaults(adsim.Faults{})
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestNothingNew checks that an incremental answer without entries changes nothing and removes no address,
// although the USN has increased.
func TestNothingNew(t *testing.T) {
	w := newWorld(t, guarded)
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.d.SetHighestUSN(w.d.HighestUSN() + 1000)
	if info := w.pass(store.Incremental); info.Seen != 0 || info.USN != w.d.HighestUSN() {
		t.Errorf("pass: %+v, want the new USN %d", info, w.d.HighestUSN())
	}
	w.server.SetFaults(adsim.Faults{Empty: true}) // a full pass with the same answer
	r := w.mirror.Pass(t.Context(), true)
	if r.Err == nil && r.Info.Hold == "" {
		t.Errorf("a full pass that saw nobody: %+v", r.Info)
	}
	w.wantKnown("ann@corp.example")
}

// TestSameObjectInTwoDirectories checks that two directories with objects of the same GUID,
// such as copies of a domain, do not take addresses from each other.
func TestSameObjectInTwoDirectories(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.user("Ann", "ann@corp.example")
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	copied := w.d.NewReplica("dc9", 500_000)
	config := w.config
	config.Name, config.Candidates = "copy", []Candidate{w.candidate(adsim.StartTest(t, copied, adsim.ServerConfig{}))}
	other, err := New(config)
	w.must(err)
	t.Cleanup(other.Close)
	w.must(other.Pass(t.Context(), false).Err)
	w.must(w.d.Delete(ann))
	w.pass(store.Incremental)
	w.wantKnown("ann@corp.example", "bob@corp.example")
	w.must(copied.Delete(ann))
	w.must(other.Pass(t.Context(), false).Err)
	w.wantKnown("bob@corp.example")
}

// TestGuardOverARestart checks that removals before a restart count, that held removals stay held, and that the
// next full pass judges discarded removals again.
func TestGuardOverARestart(t *testing.T) {
	w := newWorld(t, guarded)
	var users []adsim.GUID
	for i := range 20 {
		users = append(users, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
	}
	w.pass(store.Full)
	for _, u := range users[:3] {
		w.must(w.d.Delete(u))
	}
	if info := w.pass(store.Incremental); info.Hold != "" || info.Removed != 3 {
		t.Fatalf("three removals: %+v", info)
	}
	w.restart()
	w.must(w.d.Delete(users[3]))
	if info := w.pass(store.Incremental); info.Hold == "" {
		t.Errorf("a fourth removal after a restart: %+v, want it held", info)
	}
	w.restart()
	if s := w.mirror.Status(); s.HeldAddresses != 1 || s.HoldReason == "" {
		t.Errorf("after another restart %d are held (%q), want 1", s.HeldAddresses, s.HoldReason)
	}
	if n, err := w.store.Discard("corp", w.config.Now()); n != 1 || err != nil {
		t.Fatalf("discard: %d, %v", n, err)
	}
	w.pass(store.Incremental)
	w.wantKnown(addressesOf(3, 20)...)
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Held != 1 {
		t.Errorf("a full pass after the discard: %+v, %v, want one held", r.Info, r.Err)
	}
	w.advance(25 * time.Hour) // the window has elapsed
	w.pass(store.Full)
	w.wantEqual()
}

// addressesOf returns the addresses of users in a half-open range of numbers.
func addressesOf(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("u%d@corp.example", i))
	}
	return list
}

// TestClockOfTheController checks that no decision depends on the time of a controller.
func TestClockOfTheController(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			w := newWorld(t, nil)
			w.d = adsim.NewDirectory(adsim.DirectoryConfig{Clock: func() time.Time { return time.Now().Add(ahead) }})
			w.server = adsim.StartTest(t, w.d, adsim.ServerConfig{MaxPageSize: 3})
			w.add(adsim.OU, people)
			w.config.Candidates = []Candidate{w.candidate(w.server)}
			var lags []time.Duration
			w.config.Observe.Lag = func(d time.Duration) { lags = append(lags, d) }
			w.restart()
			ann := w.user("Ann", "ann@corp.example")
			w.user("Bob", "bob@corp.example")
			w.pass(store.Full)
			w.set(ann, "anne@corp.example")
			w.pass(store.Incremental)
			w.wantEqual()
			w.must(w.d.Delete(ann))
			w.pass(store.Incremental)
			w.wantEqual()
			if len(lags) == 0 || slices.Max(lags) > time.Hour {
				t.Errorf("a clock that is %v ahead gives the lags %v", ahead, lags)
			}
		})
	}
}

// TestOutOfTheBasesAndBackDuringAFullPass moves an OU out of the bases and back before it is read. The objects
// below it are read in between.
func TestOutOfTheBasesAndBackDuringAFullPass(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	sales := w.add(adsim.OU, "OU=Sales,"+people)
	for i := range 12 {
		w.add(adsim.User, fmt.Sprintf("CN=u%d,OU=Sales,%s", i, people), fmt.Sprintf("u%d@corp.example", i))
	}
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	out, back := false, false
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		switch {
		case s.Scope == 2 && s.Page == 4 && !out:
			out = true
			w.must(w.d.Move(sales, "OU=Left,DC=corp,DC=example"))
		case s.Scope == 2 && s.Page == 6 && !back:
			back = true
			w.must(w.d.Move(sales, people))
		}
	}})
	r := w.mirror.Pass(t.Context(), true)
	if r.Err != nil || !back {
		t.Fatalf("%+v %v %t", r.Info, r.Err, back)
	}
	t.Logf("removed %d", r.Info.Removed)
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestOutOfTheBasesAndBackDuringAnIncrementalPass moves an OU in the same way during an incremental pass, with
// changed objects below it.
func TestOutOfTheBasesAndBackDuringAnIncrementalPass(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people} })
	sales := w.add(adsim.OU, "OU=Sales,"+people)
	var all []adsim.GUID
	for i := range 12 {
		all = append(all, w.add(adsim.User, fmt.Sprintf("CN=u%d,OU=Sales,%s", i, people),
			fmt.Sprintf("u%d@corp.example", i)))
	}
	w.user("Bob", "bob@corp.example")
	w.pass(store.Full)
	for _, u := range all {
		w.must(w.d.Touch(u))
	}
	out, back := false, false
	w.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
		if s.Scope == 2 && s.Page == 2 && !out {
			out = true
			w.must(w.d.Move(sales, "OU=Left,DC=corp,DC=example"))
		}
		if s.Scope == 2 && s.Page == 3 && !back {
			back = true
			w.must(w.d.Move(sales, people))
		}
	}})
	r := w.mirror.Pass(t.Context(), false)
	w.must(r.Err)
	w.server.SetFaults(adsim.Faults{})
	t.Logf("%v removed %d", r.Info.Kind, r.Info.Removed)
	w.pass(store.Incremental)
	w.wantEqual()
}

// TestSetBackAndBrokenOff interrupts the full pass after a controller was set back, before the pass has written
// anything. By the next pass, the controller has written as many changes again.
func TestSetBackAndBrokenOff(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 9 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)
	ann, err := w.d.Lookup("CN=u0," + people)
	w.must(err)
	before := w.d.Snapshot()
	for range 10 { // logons
		w.must(w.d.Touch(ann.GUID))
	}
	w.pass(store.Incremental)
	w.d.Restore(before)
	w.user("New", "new@corp.example") // with a USN below the cursor
	w.server.SetFaults(adsim.Faults{OnPage: 2, CutAfterEntries: 1})
	if r := w.mirror.Pass(t.Context(), false); r.Err == nil || r.Info.Kind != store.Full {
		t.Fatalf("%+v %v", r.Info, r.Err)
	}
	w.server.SetFaults(adsim.Faults{})
	for range 20 {
		w.must(w.d.Touch(ann.GUID))
	}
	r := w.mirror.Pass(t.Context(), false)
	w.must(r.Err)
	t.Logf("%v pass", r.Info.Kind)
	w.wantEqual()
}

// TestBaseInHexadecimal writes a base in another RFC 4514 form than the controller does.
func TestBaseInHexadecimal(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) { c.Rules.Bases = []string{people, `OU=R\2CD,DC=corp,DC=example`} })
	w.add(adsim.OU, `OU=R\,D,DC=corp,DC=example`)
	w.user("Ann", "ann@corp.example")
	w.add(adsim.User, `CN=Dan,OU=R\,D,DC=corp,DC=example`, "dan@corp.example")
	r := w.mirror.Pass(t.Context(), false)
	state, _ := w.mirror.State()
	t.Logf("%v %s", r.Err, state)
	if r.Err == nil {
		w.wantKnown("ann@corp.example", "dan@corp.example")
	}
}

// TestNobodyStaysHeld checks that the removals held after a full pass without addresses stay held, even if that
// is the only reason.
func TestNobodyStaysHeld(t *testing.T) {
	w := newWorld(t, func(w *world, c *Config) {
		c.Guard = Guard{Percent: 5, Count: 50, Max: 500,
			Window: 24 * time.Hour}
	})
	var want []string
	for i := range 9 {
		want = append(want, fmt.Sprintf("u%d@corp.example", i))
		w.user(fmt.Sprint("u", i), want[i])
	}
	// Another directory has an address in the same domain.
	p, err := w.store.Begin("other", store.Full, store.Origin{Database: "x", Started: w.now()})
	w.must(err)
	a, _ := address.Parse("zoe@corp.example")
	_, err = p.Apply([]store.Object{{GUID: store.GUID{9}, Class: "user", DN: "CN=Zoe",
		Addresses: []store.Owned{{Address: a, Attribute: "mail"}}}})
	w.must(err)
	w.must(p.Sweep())
	_, err = p.Commit(store.Outcome{Cursor: []byte("{}"), Ended: w.now()})
	w.must(err)
	w.pass(store.Full)
	w.d.Hide("proxyAddresses", "mail") // the account loses a permission
	if r := w.mirror.Pass(t.Context(), true); r.Err != nil || r.Info.Hold == "" {
		t.Fatalf("full pass that sees nobody: %+v, %v", r.Info, r.Err)
	}
	w.wantKnown(append(want, "zoe@corp.example")...)
	info := w.pass(store.Incremental)
	if info.Removed > 0 || info.Hold == "" {
		t.Errorf("five seconds later: %+v", info)
	}
	w.wantKnown(append(want, "zoe@corp.example")...)
}
