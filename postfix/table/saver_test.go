package table

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// hungDisk is a disk that hangs until released.
type hungDisk struct {
	hangs   atomic.Bool
	entered chan struct{}
	release chan struct{}
}

func (d *hungDisk) free(string) (uint64, error) {
	if d.hangs.Load() {
		d.entered <- struct{}{}
		<-d.release
	}
	return 1 << 40, nil
}

// TestHungDisk: while the disk of the copies hangs, the files are read and a reload applies them. The status says
// after a while that they are not saved. When the disk works again, the newest version is saved.
func TestHungDisk(t *testing.T) {
	w := newKept(t, map[string]string{"one": "ann@x.example OK\n", "two": "tim@x.example OK\n"})
	first := w.copyInfo()
	disk := &hungDisk{entered: make(chan struct{}), release: make(chan struct{})}
	var clock atomic.Int64
	w.tables = NewFiles(Config{Now: func() time.Time { return time.Unix(clock.Load(), 0) },
		Copies: Copies{Dir: w.copies(), Free: disk.free}})
	w.use(w.path("one"))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.tables.RunSaver(ctx) }()
	for range 2 { // the second is taken after RunSaver has begun
		w.tables.saver.wake <- struct{}{}
	}

	disk.hangs.Store(true)
	w.write("one", "bob@x.example OK\n")
	w.want("the disk works", "bob@x.example", "ann@x.example")
	<-disk.entered
	w.write("one", "carl@x.example OK\n")
	w.want("it hangs", "carl@x.example", "bob@x.example")
	unsaved := func(want bool) {
		t.Helper()
		if got := w.tables.Status()[0].Unsaved; (got != "") != want {
			t.Errorf("unsaved %q, want a reason: %t", got, want)
		}
	}
	unsaved(false)
	clock.Add(int64(slowSave/time.Second) + 1)
	unsaved(true)
	w.write("one", "dora@x.example OK\n")
	w.use(w.path("one"), w.path("two")) // a reload
	w.knows("a reload", "dora@x.example tim@x.example", "carl@x.example")
	unsaved(true)

	disk.hangs.Store(false)
	close(disk.release)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	unsaved(false)
	if !HasCopy(w.copies(), w.path("two")) {
		t.Error("no copy of the second file")
	}
	os.Remove(w.path("one"))
	w.restart()
	w.use(w.path("one"))
	w.knows("after a start", "dora@x.example", "ann@x.example")
	if now := w.copyInfo(); os.SameFile(first, now) {
		t.Error("the copy was not written")
	}
}

// TestTouchedFile: a file that is only touched is saved once an hour, and at the end.
func TestTouchedFile(t *testing.T) {
	w := newKept(t, map[string]string{"one": "ann@x.example OK\n"})
	clock := time.Now()
	w.tables = NewFiles(Config{Now: func() time.Time { return clock }, Copies: Copies{Dir: w.copies()}})
	w.use(w.path("one"))
	before := w.copyInfo()
	touch := func(what string, after time.Duration, want bool) {
		t.Helper()
		clock = clock.Add(after)
		if err := os.Chtimes(w.path("one"), clock, clock); err != nil {
			t.Fatal(err)
		}
		w.want(what, "ann@x.example", "")
		now := w.copyInfo()
		if os.SameFile(before, now) == want {
			t.Errorf("%s: written %t", what, !want)
		}
		before = now
	}
	touch("the first time", time.Minute, true)
	touch("again", time.Minute, false)
	touch("nearly an hour later", touchEvery-2*time.Minute, false)
	clock = clock.Add(time.Minute)
	w.want("an hour later, without another touch", "ann@x.example", "")
	if now := w.copyInfo(); os.SameFile(before, now) {
		t.Error("an hour later: not written")
	} else {
		before = now
	}
	touch("once more", time.Minute, false)
	if s := w.tables.Status()[0]; s.Unsaved != "" {
		t.Errorf("a touched file is unsaved: %s", s.Unsaved)
	}
	w.write("one", "bob@x.example OK\n")
	w.want("another content", "bob@x.example", "ann@x.example")
	if now := w.copyInfo(); os.SameFile(before, now) {
		t.Error("another content: not written")
	} else {
		before = now
	}
	clock = clock.Add(time.Minute)
	if err := os.Chtimes(w.path("one"), clock, clock); err != nil {
		t.Fatal(err)
	}
	w.want("touched before the end", "bob@x.example", "")
	ended, end := context.WithCancel(t.Context())
	end()
	if err := w.tables.RunSaver(ended); err != nil || os.SameFile(before, w.copyInfo()) {
		t.Errorf("the end: not written, %v", err)
	}
}
