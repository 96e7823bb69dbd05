package mirror

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/store"
)

// loseNewestFiles ends the process, replaces the files of the store, except for its mark, by older ones, and
// starts another process.
func (w *world) loseNewestFiles(older string) {
	w.t.Helper()
	w.mirror.Close()
	w.must(w.store.Close())
	const mark = "COMMITTED"
	b, err := os.ReadFile(filepath.Join(w.dir, mark))
	w.must(err)
	w.must(os.WriteFile(filepath.Join(older, mark), b, 0o600))
	s, err := store.Open(context.Background(), store.Config{Dir: older, Now: w.config.Now})
	w.must(err)
	w.t.Cleanup(func() { s.Close() })
	w.store, w.dir = s, older
	w.restart()
}

// copyStore returns a copy of the store's files, like a backup.
func (w *world) copyStore() string {
	w.t.Helper()
	w.mirror.Close()
	w.must(w.store.Close())
	older := w.t.TempDir()
	w.must(os.CopyFS(older, os.DirFS(w.dir)))
	w.openStore(w.dir)
	w.restart()
	return older
}

// TestLostFilesAndALaggingController checks a loss of the newest files together with a change of the
// controller. dc1 had shown new@, and dc2 has not received it yet. new@ must be deferred until then.
func TestLostFilesAndALaggingController(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(w *world) // the event that ends the doubt
	}{
		{"dc1 comes back", func(w *world) {
			w.must(w.server.Up())
			w.config.Candidates = w.config.Candidates[:1]
			w.restart()
		}},
		{"the lag is over", func(w *world) { w.advance(3*time.Hour + time.Minute) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, d2, _ := two(t, nil)
			w.user("Ann", "ann@corp.example")
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			older := w.copyStore()
			w.advance(time.Minute)
			w.user("New", "new@corp.example")
			w.pass(store.Incremental)
			w.wantKnown("ann@corp.example", "new@corp.example")
			w.advance(time.Minute)
			w.loseNewestFiles(older)
			w.wantState(Widening)
			w.server.Down()
			w.pass(store.Full)
			for range 3 { // the doubt does not make every pass a full one
				w.advance(time.Minute)
				w.pass(store.Incremental)
				w.wantState(Widening)
			}
			w.wantKnown("ann@corp.example")
			d2.ReplicateFrom(w.d, 0)
			c.then(w)
			if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
				t.Fatal(r.Err)
			}
			w.wantState(Fresh)
			w.wantKnown("ann@corp.example", "new@corp.example")
		})
	}
}

// TestLostFilesAndTakenOut checks the same if the directory is not in the configuration for a while. The pass that is
// to remove its addresses reads no controller, so it proves nothing.
func TestLostFilesAndTakenOut(t *testing.T) {
	w, d2, _ := two(t, nil)
	w.user("Ann", "ann@corp.example")
	d2.ReplicateFrom(w.d, 0)
	w.pass(store.Full)
	older := w.copyStore()
	w.advance(time.Minute)
	w.user("New", "new@corp.example")
	w.pass(store.Incremental)
	w.advance(time.Minute)
	w.loseNewestFiles(older)
	if info := w.retirePass(w.retire(usualGuard)); info.Hold == "" {
		t.Fatalf("the removals are not held: %+v", info)
	}
	w.restart()
	w.server.Down()
	w.advance(time.Minute)
	w.pass(store.Full)
	w.wantState(Widening)
	w.wantKnown("ann@corp.example")
	w.advance(3*time.Hour + time.Minute)
	w.pass(store.Incremental)
	w.wantState(Fresh)
}

// TestLostFilesWhenTheClockIsSet checks that new@ is deferred as long if the local clock is set meanwhile.
func TestLostFilesWhenTheClockIsSet(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name               string
		noticed, full, now time.Duration // error of the clock when files are lost, at the full pass, and from then on
	}{
		{"right", 0, 0, 0},
		{"ahead after the full pass", 0, 0, day},
		{"behind until the full pass", -day, 0, 0},
		{"behind until after the full pass", -day, -day, 0},
		{"ahead until the full pass", day, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, d2, ahead := clockWorld(t, nil)
			w.user("Ann", "ann@corp.example")
			d2.ReplicateFrom(w.d, 0)
			w.pass(store.Full)
			older := w.copyStore()
			w.advance(time.Minute)
			w.user("New", "new@corp.example")
			w.pass(store.Incremental)
			w.advance(time.Minute)
			*ahead = c.noticed
			w.loseNewestFiles(older)
			w.server.Down()
			*ahead = c.full
			w.pass(store.Full)
			for range 2 {
				*ahead = c.now
				w.advance(time.Minute)
				if r := w.mirror.Pass(t.Context(), false); r.Err != nil {
					t.Fatal(r.Err)
				}
				w.wantState(Widening)
			}
			w.advance(3*time.Hour + time.Minute)
			w.pass(store.Incremental)
			w.wantState(Fresh)
		})
	}
}
