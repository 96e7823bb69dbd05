package table

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
)

// How often Prepare looks at files that have not been at rest for long enough.
const (
	restLooks    = 5
	newRestLooks = 2 // at files without a copy, for which a start waits
)

// Prepared are files that were read for Use.
type Prepared struct{ files []watched }

// Prepare reads files, and changes nothing. A file in use is applied as it is. Another one is judged by its
// copy on disk, like Pass judges a change: the copy stays in effect if the file cannot be used, and is added
// to one that has lost most of its entries. If a copy stays in effect although the file has changed since, the
// file may have had more entries in the meantime, so it is in doubt until Pass can read it at rest. The error is
// that of every file that cannot be used and of which there is no last good copy. One without a single address is
// of no use either: it may have been truncated.
//
// Prepare waits until the files have been at rest for Config.Rest, for restLooks times that at most. A file
// that then still changes may be half written: its entries are added to those of its last good copy. Prepare
// does not wait for a file that is not in use and has a copy, because Pass can settle it.
func (t *Files) Prepare(files []string) (Prepared, error) {
	var p Prepared
	var failed []error
	restless := t.waitForRest(files)
	for _, path := range files {
		w, err := t.prepare(path, slices.Contains(restless, path))
		if err != nil {
			failed = append(failed, err)
		}
		p.files = append(p.files, w)
	}
	return p, errors.Join(failed...)
}

// prepare reads one file, or returns its last good copy.
func (t *Files) prepare(path string, restless bool) (watched, error) {
	version := t.reads.Add(1)
	now, bad := load(path)
	var damage error
	before, used := t.inUse(path)
	found := used
	if !used {
		if before, found, damage = t.copies.load(path); found {
			before.doubt = before.doubtOfCopy()
			restless = restless && before.doubt != doubt{}
		}
	}
	restless = restless || t.config.Rest > 0 && now.stamp == stamp{}
	switch {
	case bad != nil && damage != nil:
		return watched{}, fmt.Errorf("%w; its last good copy cannot be used: %w", bad, damage)
	case bad != nil && !found:
		return watched{}, bad
	case bad != nil:
		before.stamp = now.stamp
		return t.held(t.troubled(before, bad), used), nil
	case restless && found:
		return t.held(t.gained(before, now, stamp{}, errRestless), used), nil
	case found && !used:
		if why := shrunk(before, now.table); why != nil {
			before.doubt = doubt{}
			return t.held(t.gained(before, now, now.stamp, why), used), nil
		}
	}
	t.report(path, now.table)
	now.read, now.version, now.doubt = t.config.Now(), version, doubtOf(damage, restless)
	if restless {
		now.stamp = stamp{} // Pass reads it again
	}
	t.reportDoubt(now)
	return now, nil
}

// held returns a file whose last good copy stays in effect. If that comes from the disk, its trouble may be as
// old as the copy.
func (t *Files) held(w watched, used bool) watched {
	if !used {
		w.since = w.read
		t.reportDoubt(w)
	}
	return w
}

func (t *Files) reportDoubt(w watched) {
	if w.doubt.text != "" {
		t.config.Log.Error("accept file may lack entries; unknown recipients are deferred", "file", w.path,
			"reason", w.doubt.text)
	}
}

// doubtOfCopy returns why the copy of a file on disk may lack entries: the file has changed since it was read for
// the copy, or is gone. A copy may be any age, because it could not be written, or no daemon was running.
func (w watched) doubtOfCopy() doubt {
	now, err := stampOf(os.Stat(w.path))
	if err == nil && now.size == w.size && time.Unix(now.modified.Unix()).Equal(w.modified) {
		return doubt{}
	}
	return doubt{fmt.Sprintf("the file has changed or gone since its last good copy of %s, and cannot be read in "+
		"full; restore the file", w.read.UTC().Format(time.RFC3339)), true}
}

// doubtOf returns why a file may lack entries of which there is no last good copy in use.
func doubtOf(damage error, restless bool) doubt {
	switch {
	case damage != nil:
		return doubt{text: fmt.Sprintf("its last good copy cannot be used, so the file may have lost entries: %v; "+
			"check the file and apply it with `rcpt-milter reload`", damage)}
	case restless:
		return doubt{"it kept changing at the start, so it may be half written; let it rest for some seconds", true}
	}
	return doubt{}
}

// inUse returns the state of a file in use.
func (t *Files) inUse(path string) (w watched, found bool) {
	for _, w := range *t.files.Load() {
		if w.path == path {
			return w, true
		}
	}
	return watched{}, false
}

// waitForRest waits until files have been at rest for long enough, and returns those that still change.
func (t *Files) waitForRest(files []string) (restless []string) {
	looked := map[string]stamp{}
	for _, path := range files {
		now, err := stampOf(os.Stat(path))
		switch {
		case err != nil || t.atRest(path, now):
		case t.maxLooks(path) == 0:
			restless = append(restless, path)
		default:
			looked[path] = now
		}
	}
	for looks := 1; len(looked) > 0 && t.config.Wait(t.config.Rest); looks++ {
		for path, before := range looked {
			now, err := stampOf(os.Stat(path))
			if looked[path] = now; err != nil || now == before {
				delete(looked, path)
			} else if looks >= t.maxLooks(path) {
				restless = append(restless, path)
				delete(looked, path)
			}
		}
	}
	return slices.AppendSeq(restless, maps.Keys(looked))
}

// maxLooks returns how often Prepare looks at a file that is not at rest.
func (t *Files) maxLooks(path string) int {
	if _, used := t.inUse(path); used {
		return restLooks
	}
	if t.copies.Dir != "" && HasCopy(t.copies.Dir, path) {
		return 0
	}
	return newRestLooks
}

// atRest reports whether a file is at rest for certain. The clock of its file system does not matter for a
// file in use: that one has changed since it was read, or not.
func (t *Files) atRest(path string, now stamp) bool {
	if t.config.Rest == 0 {
		return true
	}
	if w, used := t.inUse(path); used {
		return now == w.stamp
	}
	since := min(t.config.Now().Sub(time.Unix(now.modified.Unix())), t.config.Now().Sub(time.Unix(now.status.Unix())))
	return since >= t.config.Rest
}

// load reads a file, which must have an entry. It does not set the time of reading. The stamp
// is zero if the file changed meanwhile, or could not be read; the modification time is that before the change. After
// an error only the stamp is set.
func load(path string) (watched, error) {
	f, err := Open(path)
	if err != nil {
		return watched{}, err
	}
	defer f.Close()
	s, err := stampOf(f.Stat())
	if err != nil {
		return watched{stamp: s}, err
	}
	table, err := readTable(f, path)
	if err != nil {
		if !errors.Is(err, ErrNotTable) {
			s = stamp{} // the file itself may be fine, so it is to be read again although it has not changed
		}
		return watched{stamp: s}, err
	}
	modified, size := time.Unix(s.modified.Unix()), s.size
	if after, err := stampOf(os.Stat(path)); err != nil || after != s {
		s = stamp{}
	}
	if table.Len() == 0 {
		return watched{stamp: s}, fmt.Errorf("%s: %w", path, noEntry(table))
	}
	return watched{path: path, table: table, sound: table, whole: table.Len(), modified: modified, size: size,
		stamp: s, looked: s}, nil
}

// noEntry returns why a table has no entry.
func noEntry(t *Table) error {
	if first, all := t.Problems(); all > 0 {
		return fmt.Errorf("none of its lines can be read: %v", first[0])
	}
	return errors.New("it contains no address")
}

func stampOf(info fs.FileInfo, err error) (stamp, error) {
	if err != nil {
		return stamp{}, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, fmt.Errorf("%s: no file of a unix system", info.Name())
	}
	return stamp{uint64(s.Dev), s.Ino, s.Size, s.Mtim, s.Ctim}, nil
}
