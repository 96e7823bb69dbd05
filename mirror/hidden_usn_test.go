package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// unreadOf returns the values that need correction, as object:attribute:value.
func (w *world) unreadOf() string {
	w.t.Helper()
	list, err := w.store.Unread(1000)
	w.must(err)
	var out []string
	for _, u := range list {
		name, _, _ := strings.Cut(u.DN, ",")
		out = append(out, name+":"+u.Attribute+":"+u.Value)
	}
	return strings.Join(out, " ")
}

// TestObjectThatHidesItsUSN checks that an object whose uSNChanged is hidden does not stop the directory. It is
// reported, its addresses are accepted, and the removals of the pass wait for the next one.
func TestObjectThatHidesItsUSN(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.user("Ann", "ann@corp.example", "a.smith@corp.example"), w.user("Bob", "bob@corp.example")
	for i := range 5 {
		w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i))
	}
	w.pass(store.Full)

	w.d.HideOf(ann, "uSNChanged")
	eve := w.user("Eve", "eve@corp.example")
	w.d.HideOf(eve, "uSNChanged")
	w.set(ann, "ann@corp.example", "ann.smith@corp.example")
	w.d.WithholdDeleted(true) // only full passes find the deletion
	w.must(w.d.Delete(bob))
	w.user("New", "new@corp.example")
	w.d.WithholdDeleted(false)
	r := w.mirror.Pass(t.Context(), true)
	if r.Err != nil {
		t.Fatalf("a pass over objects that hide uSNChanged: %v", r.Err)
	}
	for _, address := range []string{"ann@corp.example", "a.smith@corp.example", "ann.smith@corp.example",
		"eve@corp.example", "new@corp.example", "bob@corp.example"} {
		if !w.knows(address) {
			t.Errorf("%s is unknown after a pass that met an object which hides uSNChanged", address)
		}
	}
	if got := w.mirror.Status(); got.HeldAddresses != 1 ||
		!strings.Contains(got.HoldReason, "2 objects hide uSNChanged") || !strings.Contains(got.HoldReason, "CN=Ann,") {
		t.Errorf("%d removals wait because %q", got.HeldAddresses, got.HoldReason)
	}
	if got := w.unreadOf(); !strings.Contains(got, "CN=Ann:usnchanged:") ||
		!strings.Contains(got, "CN=Eve:usnchanged:") || strings.Contains(got, "CN=u") {
		t.Errorf("named are %s", got)
	}

	w.pass(store.Incremental)
	if w.knows("bob@corp.example") || !w.knows("a.smith@corp.example") {
		t.Errorf("after the next pass the index knows %q", w.known())
	}
	if got := w.mirror.Status(); got.HoldReason != "" {
		t.Errorf("the next pass holds because %q", got.HoldReason)
	}

	// The permission is granted: the change is visible, and nothing is reported.
	w.d.HideOf(ann)
	w.d.HideOf(eve)
	w.must(w.d.Touch(ann))
	w.must(w.d.Touch(eve))
	w.pass(store.Incremental)
	w.wantEqual()
	if got := w.unreadOf(); got != "" || w.store.Totals().Unparsed != 0 {
		t.Errorf("named are still %s, %d in all", got, w.store.Totals().Unparsed)
	}
}

// TestHiddenContainer checks that a container whose uSNChanged is hidden is reported, and that the pass is not
// repeated.
func TestHiddenContainer(t *testing.T) {
	w := newWorld(t, func(_ *world, c *Config) { c.Rules.Bases = []string{people} })
	hidden := w.add(adsim.OU, "OU=Hidden,"+people)
	w.user("Ann", "ann@corp.example")
	w.d.HideOf(hidden, "uSNChanged")
	w.pass(store.Full)
	w.wantEqual()
	if got := w.unreadOf(); got != "OU=Hidden:usnchanged:" {
		t.Errorf("named are %s", got)
	}
}

// TestAllHideTheirUSN checks that the pass fails if uSNChanged is hidden everywhere, because no change would be
// visible.
func TestAllHideTheirUSN(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.must(w.d.Delete(ann))
	w.user("Bob", "bob@corp.example")
	w.d.Hide("uSNChanged")
	r := w.mirror.Pass(t.Context(), true)
	if r.Err == nil || !strings.Contains(r.Err.Error(), "came without uSNChanged") {
		t.Errorf("a pass that sees no uSNChanged: %v", r.Err)
	}
	if !w.knows("ann@corp.example") {
		t.Error("it removed an address")
	}
}

// TestHiddenObjectsAtRandom hides uSNChanged of random objects. No existing object may be unknown after a full
// pass, and the next pass must remove the missing ones.
func TestHiddenObjectsAtRandom(t *testing.T) {
	for seed := range 8 {
		w := newWorld(t, func(_ *world, c *Config) { c.Guard.Max = 0 })
		var all []adsim.GUID
		for i := range 12 {
			all = append(all, w.user(fmt.Sprint("u", i), fmt.Sprintf("u%d@corp.example", i)))
		}
		w.pass(store.Full)
		for i, guid := range all {
			switch (i*7 + seed*5) % 4 {
			case 0:
				w.d.HideOf(guid, "uSNChanged")
				w.set(guid, fmt.Sprintf("u%d@corp.example", i), fmt.Sprintf("more%d@corp.example", i))
			case 1:
				w.must(w.d.Delete(guid))
			}
		}
		w.advance(25 * time.Hour)
		w.pass(store.Full)
		for address := range w.d.Owners() {
			if !w.knows(address) {
				t.Errorf("seed %d: %s is in the directory and unknown", seed, address)
			}
		}
		w.pass(store.Incremental)
		w.wantEqual()
	}
}

// TestValuesToCorrectAreLoggedOnce checks that a value is logged when it is first seen, and not again by later
// passes or after a restart.
func TestValuesToCorrectAreLoggedOnce(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(_ *world, c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ann := w.user("Ann", "ann@corp.example")
	w.must(w.d.Modify(ann, adsim.Set("proxyAddresses", "smtp:ann@corp.example", "a.smith@corp.example",
		"smtp:*@corp.example")))
	w.pass(store.Full)
	logged := func(value string) int {
		return strings.Count(log.String(), "directory value needs correction") * strings.Count(log.String(),
			"value="+value+" ")
	}
	if strings.Count(log.String(), "directory value needs correction") != 2 || logged("a.smith@corp.example") == 0 ||
		!strings.Contains(log.String(), "CN=Ann,") {
		t.Errorf("the log has\n%s", log.String())
	}
	log.Reset()
	w.must(w.d.Touch(ann))
	w.pass(store.Incremental)
	w.restart()
	w.advance(25 * time.Hour)
	w.pass(store.Full)
	if strings.Contains(log.String(), "needs correction") {
		t.Errorf("the same values are logged again:\n%s", log.String())
	}
	w.must(w.d.Modify(ann, adsim.Set("proxyAddresses", "smtp:ann@corp.example", "a.smith@corp.example",
		"smtp:smtp:a@corp.example")))
	w.pass(store.Incremental)
	if strings.Count(log.String(), "needs correction") != 1 ||
		!strings.Contains(log.String(), "smtp:smtp:a@corp.example") {
		t.Errorf("of a new value the log has\n%s", log.String())
	}
	want := "CN=Ann:proxyaddresses:a.smith@corp.example CN=Ann:proxyaddresses:smtp:smtp:a@corp.example"
	if got := w.unreadOf(); got != want {
		t.Errorf("named are %s", got)
	}
	w.set(ann, "ann@corp.example")
	w.pass(store.Incremental)
	if got := w.unreadOf(); got != "" {
		t.Errorf("named after the correction are %s", got)
	}
}

// TestRedactedValues checks that values that may be addresses stay out of the log.
func TestRedactedValues(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(_ *world, c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.RedactValues = true
	})
	w.must(w.d.Modify(w.user("Ann", "ann@corp.example"), adsim.Set("mail", "mailto:secret@corp.example")))
	w.pass(store.Full)
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "value=(redacted)") ||
		!strings.Contains(text, "CN=Ann,") {
		t.Errorf("the log has\n%s", text)
	}
	if got := w.unreadOf(); got != "CN=Ann:mail:mailto:secret@corp.example" {
		t.Errorf("named are %s", got)
	}
}

// TestManyValuesToCorrect checks that the number of log lines is limited.
func TestManyValuesToCorrect(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, func(_ *world, c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for i := range 30 {
		guid := w.user(fmt.Sprint("u", i))
		w.must(w.d.Modify(guid, adsim.Set("mail", fmt.Sprintf("mailto:u%d@corp.example", i))))
	}
	w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	if n := strings.Count(log.String(), "directory value needs correction"); n != maxLoggedValues {
		t.Errorf("%d values are logged, want %d", n, maxLoggedValues)
	}
	if !strings.Contains(log.String(), "count=10") || w.store.Totals().Unparsed != 30 {
		t.Errorf("%d values are counted, and the log has\n%s", w.store.Totals().Unparsed, log.String())
	}
}

// TestChangesHiddenLater checks an account that loses the right to read uSNChanged while the mirror runs: changes
// are no longer seen, so the index must not stay fresh.
func TestChangesHiddenLater(t *testing.T) {
	fails := func(t *testing.T, w *world) {
		t.Helper()
		if r := w.mirror.Pass(t.Context(), false); !errors.Is(r.Err, directory.ErrChangesHidden) {
			t.Fatalf("pass: %+v, %v, want %v", r.Info, r.Err, directory.ErrChangesHidden)
		}
	}
	for _, c := range []struct {
		name  string
		after time.Duration // until the next pass
	}{
		{"a full pass is due", 25 * time.Hour},
		{"no full pass is due", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.user("Ann", "ann@corp.example")
			w.pass(store.Full)
			w.d.Hide("uSNChanged")
			w.user("Bob", "bob@corp.example")
			w.advance(c.after)
			fails(t, w)
			if s := w.mirror.Status(); s.LastError == nil || strings.Contains(s.LastError.Error(), "still read") {
				t.Errorf("last error: %v", s.LastError)
			}
			w.advance(w.config.StaleAfter + time.Minute)
			fails(t, w)
			if state, _ := w.mirror.State(); state != Stale {
				t.Errorf("state %v, want %v", state, Stale)
			}
			w.d.Hide()
			w.pass(store.Full)
			w.wantEqual()
			if state, _ := w.mirror.State(); state != Fresh {
				t.Errorf("state %v, want %v", state, Fresh)
			}
			w.user("Cid", "cid@corp.example")
			w.pass(store.Incremental)
			w.wantEqual()
		})
	}
}

// TestRecipientsHiddenLater checks that a mirror whose recipients hide uSNChanged, while other objects show it,
// makes one more full pass and then incremental ones as before.
func TestRecipientsHiddenLater(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.user("Ann", "ann@corp.example")
	w.pass(store.Full)
	w.d.HideOf(ann, "uSNChanged")
	w.set(ann, "ann@corp.example", "a.smith@corp.example")
	w.pass(store.Full)
	w.wantEqual()
	for range 3 {
		w.advance(2 * usnCheckInterval)
		w.must(w.d.Touch(ann))
		w.pass(store.Incremental)
	}
}

// TestHiddenUSNAfterABrokenFullPass checks that the index does not stay fresh if the full pass that follows hidden
// uSNChanged fails.
func TestHiddenUSNAfterABrokenFullPass(t *testing.T) {
	w, all, _ := hidingWorld(t)
	for _, guid := range all {
		w.d.HideOf(guid, "uSNChanged")
	}
	w.d.HideOf(w.user("New", "new@corp.example"), "uSNChanged")
	w.advance(usnCheckInterval + time.Minute)
	w.failFullReads()
	if r := w.mirror.Pass(t.Context(), false); r.Err == nil {
		t.Fatalf("pass: %+v", r.Info)
	}
	w.server.SetFaults(adsim.Faults{})
	w.pass(store.Full)
	if !w.knows("new@corp.example") {
		t.Error("an object that hides uSNChanged is unknown after a good pass")
	}
}
