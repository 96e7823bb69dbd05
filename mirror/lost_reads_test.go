package mirror

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/store"
)

// loseNewestFiles ends the process, puts the files of an earlier time in the place of the store's,
// except for its mark, and starts another process.
func (w *world) loseNewestFiles(older string) {
	w.t.Helper()
	w.mirror.Close()
	w.must(w.store.Close())
	const mark = "COMMITTED"
	b, err := os.ReadFile(filepath.Join(w.dir, mark))
	w.must(err)
	w.must(os.WriteFile(filepath.Join(older, mark), b, 0o600))
	s, err := store.Open(context.Background(), store.Config{Dir: older, Now: w.now})
	w.must(err)
	w.t.Cleanup(func() { s.Close() })
	w.store, w.dir = s, older
	w.restart()
}

// copyStore returns a copy of the files of the store, as a backup has them.
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

// TestLostFilesAndALaggingController: dc1 showed new@, the newest files of the store are lost, and
// dc2, which takes over, has not received new@ yet. new@ is deferred until then.
func TestLostFilesAndALaggingController(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(w *world) // what ends the doubt
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
			for range 3 { // the doubt does not make each pass a full one
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
