package table

import (
	"context"
	"sync"
	"sync/atomic"
)

// saver has the copies of files written by one goroutine, because a disk may hang, and looks at the files must go
// on then.
type saver struct {
	disk    sync.Mutex    // held while copies are written
	wake    chan struct{} // of capacity 1
	running atomic.Bool   // RunSaver runs
	changed atomic.Bool   // the list of files has changed since copies were removed
}

// Save has the copies of the files written to disk, as far as they have changed, and those of other files removed.
// If RunSaver runs, Save only wakes it. Otherwise Save waits for the disk.
func (t *Files) Save() {
	if !t.saver.running.Load() {
		t.writeCopies(false)
		return
	}
	select {
	case t.saver.wake <- struct{}{}:
	default: // it has not begun yet, and will see the current files
	}
}

// RunSaver writes the copies of the files to disk, whenever Save wakes it, until ctx ends. It then writes what was
// put off, and returns nil.
func (t *Files) RunSaver(ctx context.Context) error {
	t.saver.running.Store(true)
	defer t.saver.running.Store(false)
	for {
		select {
		case <-ctx.Done():
			t.writeCopies(true)
			return nil
		case <-t.saver.wake:
			t.writeCopies(false)
		}
	}
}

// writeCopies writes the copies of the current files. The last call also writes what can wait.
func (t *Files) writeCopies(last bool) {
	t.saver.disk.Lock()
	defer t.saver.disk.Unlock()
	changed := t.saver.changed.Swap(false)
	all := *t.files.Load()
	t.copies.save(all, last)
	if changed {
		t.copies.keepOnly(all)
	}
}
