package stream

import (
	"errors"
	"os"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/mirror"
)

// former returns a fleet whose engine was restored from a backup of an earlier generation. Only the current
// generation has the address later@corp.example. The hub is stopped.
func former(t *testing.T) (w *trio, first, second directory.GUID, oldHub string) {
	t.Helper()
	w = newTrio(t)
	eventually(t, "the edge has ended a pass", func() bool {
		first = w.edge.mirror.Status().InvocationID
		return !first.IsZero()
	})
	w.hub.stop()
	w.engine.stop()
	old := w.engine.backup()
	oldHub = t.TempDir()
	if err := os.CopyFS(oldHub, os.DirFS(w.hub.dir)); err != nil {
		t.Fatal(err)
	}
	w.engine.start()
	if err := w.engine.admin().DeleteStream(t.Context(), streamName("corp")); err != nil {
		t.Fatal(err)
	}
	w.hub.start()
	w.still("later")
	eventually(t, "the edge has ended a pass of a new generation", func() bool {
		second = w.edge.mirror.Status().InvocationID
		return second != first
	})
	if r := <-w.edge.mirror.Sync(false); r.Err != nil { // records that the index equals the stream
		t.Fatal(r.Err)
	}
	w.hub.stop()
	w.engine.stop()
	w.engine.restore(old)
	w.engine.start()
	return w, first, second, oldHub
}

// holdsOff waits until the edge reports that the stream is not newer than its index.
func (w *trio) holdsOff() {
	w.t.Helper()
	eventually(w.t, "the edge does not follow the stream", func() bool {
		return errors.Is(w.edge.mirror.Status().LastError, mirror.ErrNotNewer)
	})
}

// TestBackupOfFormerGeneration restores an engine from a backup of an earlier generation while no hub runs. The
// edge keeps its index and becomes late and then stale, as if the engine were down. It follows the next hub.
func TestBackupOfFormerGeneration(t *testing.T) {
	w, _, second, _ := former(t)
	w.holdsOff()
	keeps := func() {
		t.Helper()
		w.keeps()
		if s := w.edge.mirror.Status(); !w.edge.has("later@corp.example") || s.InvocationID != second {
			t.Fatalf("the edge follows %v, and knows the last address: %t", s.InvocationID,
				w.edge.has("later@corp.example"))
		}
	}
	keeps()
	w.edge.stop()
	w.edge.start()
	w.holdsOff()
	keeps()
	w.edge.offset.Store(int64(20 * time.Minute))
	if s, _ := w.edge.mirror.State(); s != mirror.Late {
		t.Errorf("state %v after 20 minutes", s)
	}
	w.edge.offset.Store(int64(5 * time.Hour))
	if s, _ := w.edge.mirror.State(); s != mirror.Stale {
		t.Errorf("state %v after 5 hours", s)
	}
	keeps()
	w.edge.offset.Store(0)
	w.hub.start()
	w.still("last")
	if !w.edge.has("later@corp.example") {
		t.Error("the edge forgot an address")
	}
	eventually(t, "no error stays", func() bool { return w.edge.mirror.Status().LastError == nil })
}

// TestBackupOfFormerGenerationIsWanted checks that an operator can make the edge read the old stream.
func TestBackupOfFormerGenerationIsWanted(t *testing.T) {
	w, first, _, _ := former(t)
	w.holdsOff()
	if r := <-w.edge.mirror.Sync(true); r.Err != nil {
		t.Fatal(r.Err)
	}
	if s := w.edge.mirror.Status(); s.InvocationID != first || w.edge.has("later@corp.example") {
		t.Errorf("the edge follows %v, want %v", s.InvocationID, first)
	}
	w.keeps()
	if r := <-w.edge.mirror.Sync(false); r.Err != nil {
		t.Errorf("the next pass: %v", r.Err)
	}
	w.hub.start()
	w.still("last")
	eventually(t, "the edge has what the backup lacked", func() bool { return w.edge.has("later@corp.example") })
}

// TestFormerGenerationWithItsHub restores engine and hub to an earlier generation together. The hub continues
// that generation, so the edge follows.
func TestFormerGenerationWithItsHub(t *testing.T) {
	w, first, _, oldHub := former(t)
	w.holdsOff()
	w.hub.dir = oldHub
	w.hub.start()
	w.still("last")
	eventually(t, "the edge follows the former generation", func() bool {
		return w.edge.mirror.Status().InvocationID == first
	})
	if !w.edge.has("later@corp.example") {
		t.Error("the edge forgot an address")
	}
}

// TestOlderDirectory presents streams that the edge has never followed: one whose hub read the directory long
// ago, and one that is as recent as the index.
func TestOlderDirectory(t *testing.T) {
	w := newTrio(t)
	w.hub.stop()
	js := w.engine.admin()
	republish(t, js, func(at *state) { at.Generation, at.Age = directory.GUID{9}, time.Hour })
	w.holdsOff()
	republish(t, js, func(at *state) { at.AgeUnknown = true })
	if r := <-w.edge.mirror.Sync(false); !errors.Is(r.Err, mirror.ErrNotNewer) {
		t.Errorf("age unknown: %v", r.Err)
	}
	republish(t, js, func(at *state) { at.Age, at.AgeUnknown = 0, false })
	eventually(t, "the edge follows", func() bool {
		return w.edge.mirror.Status().InvocationID == directory.GUID{9}
	})
	w.keeps()
}

// TestSetBackIsWanted restores an earlier backup of the same generation, and an operator lets the edge read it.
func TestSetBackIsWanted(t *testing.T) {
	w := newTrio(t)
	w.engine.stop()
	old := w.engine.backup()
	w.engine.start()
	w.still("later")
	w.hub.stop()
	w.engine.stop()
	w.engine.restore(old)
	w.engine.start()
	eventually(t, "the edge does not follow the stream", func() bool {
		return errors.Is(w.edge.mirror.Status().LastError, mirror.ErrSetBack)
	})
	if !w.edge.has("later@corp.example") {
		t.Error("the edge forgot an address")
	}
	for _, full := range []bool{true, false} {
		if r := <-w.edge.mirror.Sync(full); r.Err != nil {
			t.Errorf("full %t: %v", full, r.Err)
		}
	}
	if w.edge.has("later@corp.example") {
		t.Error("the edge did not read the backup")
	}
	w.keeps()
	w.hub.start()
	w.still("last")
	eventually(t, "the edge has what the backup lacked", func() bool { return w.edge.has("later@corp.example") })
}
