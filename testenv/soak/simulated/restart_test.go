package simulated

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"

	"rcpt-milter/testenv/adsim"
)

// restart makes the mirror, and sometimes the store, anew in good order.
func (w *world) restart(f *forest) {
	if w.rnd.IntN(2) == 0 {
		w.note("%s: mirror restarted", f.name)
		f.start()
		return
	}
	w.note("all is restarted")
	w.reopen(w.dir)
}

// reopen closes the store and opens one in a directory, with mirrors anew.
func (w *world) reopen(dir string) {
	for _, f := range w.forests {
		f.mirror.Close()
	}
	if err := w.store.Close(); err != nil {
		w.fail("close: %v", err)
	}
	w.dir = dir
	w.openStore()
	for _, f := range w.forests {
		f.start()
	}
	w.check("after a restart")
}

// crash kills the process, as far as anybody can tell, before some page of a pass: from
// what was on disk at that moment it goes on.
func (w *world) crash(f *forest) {
	image := ""
	var remembered memory
	at, page := 1+w.rnd.IntN(8), 0
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{BeforePage: func(s adsim.Search) {
			if page++; page == at {
				image, remembered = w.image(), f.remember()
			}
		}})
		defer c.server.SetFaults(adsim.Faults{})
	}
	w.note("%s: crash before search %d of a pass", f.name, at)
	w.inPass++
	before := w.known()
	f.promise.passBegins(w)
	f.mirror.Pass(w.t.Context(), w.rnd.IntN(3) == 0)
	f.guardedDomains(before)
	w.inPass--
	if image == "" {
		image, remembered = w.image(), f.remember()
	}
	f.recall(remembered)
	w.reopen(image)
}

// image copies the files of the store as they are at this moment. The database may be
// tidying up: a copy during which a file came, grew or went is of no moment, and is made
// again.
func (w *world) image() string {
	for {
		before, dir := w.files(), w.t.TempDir()
		out, err := exec.Command("cp", "--sparse=always", "-r", w.dir+"/.", dir).CombinedOutput()
		if !slices.Equal(before, w.files()) {
			continue
		}
		if err != nil {
			w.fail("copy of the store: %v: %s", err, out)
		}
		return dir
	}
}

// files lists the files of the store with their sizes.
func (w *world) files() []string {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.fail("list of the store: %v", err)
	}
	var list []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it has gone since
			list = append(list, fmt.Sprint(e.Name(), " ", info.Size()))
		}
	}
	return list
}

// memory is what a crash sets back: all that follows from the passes of a forest.
type memory struct {
	promise  promise
	views    []view
	owesFull string
	removals []removal
	setBack  bool
	read     readRules
}

func (f *forest) remember() memory {
	m := memory{f.promise, nil, f.owesFull, slices.Clone(f.removals), f.setBack, f.read}
	m.promise.learned = maps.Clone(m.promise.learned)
	for _, c := range f.controllers {
		v := c.view
		v.since, v.unread = maps.Clone(v.since), maps.Clone(v.unread)
		v.reached, v.epochs = maps.Clone(v.reached), maps.Clone(v.epochs)
		m.views = append(m.views, v)
	}
	return m
}

// recall needs that nothing has changed in the directory since.
func (f *forest) recall(m memory) {
	f.promise, f.owesFull, f.removals, f.setBack, f.read = m.promise, m.owesFull, m.removals, m.setBack, m.read
	for i, c := range f.controllers {
		c.view = m.views[i]
	}
}
