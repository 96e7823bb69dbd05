package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rcpt-milter/address"
)

const (
	// defaultEvery is the default interval of looks at the files.
	defaultEvery = 2 * time.Second
	// A file that loses lostEntries of its entries, and more than half of them, is probably not what
	// its author meant: an export that failed, or a writer that stalled.
	lostEntries = 100
	// unsettledLooks is the number of successive looks after which the entries of a file that keeps
	// changing are added to those of its last good copy.
	unsettledLooks = 10
)

// Config configures how files are watched.
type Config struct {
	// Every is the interval of Run; zero means two seconds.
	Every time.Duration
	// Log receives changes of the files; nil discards.
	Log *slog.Logger
	// Judged reports whether recipients of a domain are judged. Entries of other domains can
	// never match. Nil means all domains.
	Judged func(domain string) bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Rest is how long a file must not have changed before Prepare takes it for complete; zero means that
	// Prepare reads every file as it is.
	Rest time.Duration
	// Wait waits for a time, and reports false if it was cut short; nil means time.Sleep.
	Wait func(time.Duration) bool
	// Copies says where the last good copies are kept for the next start.
	Copies Copies
	// Tick returns the channel that Run waits for, and a stop function; nil means time.Ticker.
	Tick func(time.Duration) (<-chan time.Time, func())
}

// Files are the tables of several files, kept in step with them. Which files those are
// may change. Make it with NewFiles.
type Files struct {
	config Config
	turn   sync.Mutex                // held while files change
	files  atomic.Pointer[[]watched] // never changed in place
	copies *savedCopies
	saver  saver
	reads  atomic.Uint64 // the last version of a file
}

// watched is one file and its last good copy.
type watched struct {
	path  string
	table *Table // the last good copy
	// what the file had when it was last applied as a whole; after a restart perhaps the last good copy
	sound    *Table
	whole    int       // number of entries of the file at that time
	read     time.Time // when that was read
	version  uint64    // grows with each read of any file; the clock may be set back
	modified time.Time // modification time of the file from which it was read
	size     int64     // of that file
	stamp    stamp     // of the file when it was read or rejected
	looked   stamp     // at the last look
	looks    int       // successive looks that differed from stamp
	trouble  string    // why table is an older copy; empty if it is current
	since    time.Time // start of the trouble
	doubt    doubt     // why table may lack entries
}

// doubt is the reason why the table of a file may lack entries, even if the file can be read. The zero value
// is none.
type doubt struct {
	text        string
	untilAtRest bool // it ends when the file has been read at rest; otherwise with the next Prepare
}

// stamp identifies a state of a file.
type stamp struct {
	device, inode    uint64
	size             int64
	modified, status syscall.Timespec // mtime and ctime; a copy that keeps mtime changes ctime
}

// NewFiles returns an empty list of files. It starts no goroutine.
func NewFiles(config Config) *Files {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Judged == nil {
		config.Judged = func(string) bool { return true }
	}
	if config.Wait == nil {
		config.Wait = func(d time.Duration) bool { time.Sleep(d); return true }
	}
	if config.Every == 0 {
		config.Every = defaultEvery
	}
	if config.Tick == nil {
		config.Tick = func(every time.Duration) (<-chan time.Time, func()) {
			ticker := time.NewTicker(every)
			return ticker.C, ticker.Stop
		}
	}
	t := &Files{config: config, copies: newSavedCopies(config), saver: saver{wake: make(chan struct{}, 1)}}
	t.files.Store(&[]watched{})
	return t
}

// Use replaces the files, and saves their copies. Look-ups follow their order.
func (t *Files) Use(p Prepared) {
	t.Change(p, func() {})
	t.Save()
}

// Change replaces the files and calls swap. During swap, look-ups use the previous files and
// these, so an address in either is found at every moment. The caller calls Save afterwards.
func (t *Files) Change(p Prepared, swap func()) {
	t.turn.Lock()
	defer t.turn.Unlock()
	before := *t.files.Load()
	after := slices.Clone(p.files)
	for i, w := range after {
		at := slices.IndexFunc(before, func(b watched) bool { return b.path == w.path })
		if at >= 0 && before[at].version > w.version { // a look has read a newer version since Prepare
			after[i] = w.renewed(before[at])
		}
	}
	both := append(slices.Clone(after), before...)
	t.files.Store(&both)
	swap()
	t.files.Store(&after)
	t.saver.changed.Store(true)
}

// renewed returns a file after a look that is newer than Prepare. If the look could only add to the last good copy,
// what Prepare read counts as well.
func (w watched) renewed(look watched) watched {
	if look.trouble != "" {
		look.table, look.sound, look.whole = look.table.with(w.table), w.sound, w.whole
	}
	if !w.doubt.untilAtRest { // otherwise the look knows whether it has ended
		look.doubt = w.doubt
	}
	return look
}

// Find returns the file and the line that name a mailbox or its domain, or line 0. whole
// reports that only the domain is named.
func (t *Files) Find(a address.Address) (file string, line int, whole bool) {
	for _, w := range *t.files.Load() {
		if line := w.table.Find(a); line != 0 {
			return w.path, line, !w.table.Has(a.String())
		}
	}
	return "", 0, false
}

// Aliases visits the targets of a canonical domain, with the file and the line.
func (t *Files) Aliases(domain string, visit func(target, file string, line int)) {
	for _, w := range *t.files.Load() {
		targets, line := w.table.Aliases(domain)
		for _, target := range targets {
			visit(target, w.path, line)
		}
	}
}

// Snapshot returns the current tables in the order of the files.
func (t *Files) Snapshot() []*Table {
	var all []*Table
	for _, w := range *t.files.Load() {
		all = append(all, w.table)
	}
	return all
}

// FileStatus is the state of one file.
type FileStatus struct {
	File            string
	Entries         int       // mailboxes and domains in effect
	Domains         int       // how many of them are @domain
	Aliases         int       // how many of them map a domain to others
	Read            time.Time // when they were read
	Modified        time.Time // modification time of the file from which they were read
	Trouble         string    // why they are an older copy; empty if they are current
	Since           time.Time // when that began
	Doubt           string    // why entries may be missing, so no address is unknown; empty: none are
	Unsaved         string    // why the copy on disk is not that in effect; empty: it is, or none is kept
	Problems        []Problem // the first invalid lines
	Unread          int       // number of invalid lines
	Unjudged        []Problem // the first lines of domains that are not judged
	Unmatched       int       // number of entries of these domains
	SuspiciousLines []Problem // the first lines that count, but probably not as they were intended
	Suspicious      int       // number of these lines
}

// Status returns the state of all files in their order.
func (t *Files) Status() []FileStatus {
	var all []FileStatus
	for _, w := range *t.files.Load() {
		s := FileStatus{File: w.path, Entries: w.table.Len(), Domains: w.table.Domains(), Aliases: w.table.AliasCount(),
			Read: w.read, Modified: w.modified, Trouble: w.trouble, Since: w.since,
			Doubt: w.doubt.text, Unsaved: t.copies.trouble(w)}
		s.Problems, s.Unread = w.table.Problems()
		s.Unjudged, s.Unmatched = w.table.Unjudged(t.config.Judged)
		s.SuspiciousLines, s.Suspicious = w.table.Suspicious()
		all = append(all, s)
	}
	return all
}

// Run calls Pass periodically until ctx ends, and returns nil.
func (t *Files) Run(ctx context.Context) error {
	ticks, stop := t.config.Tick(t.config.Every)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			t.Pass()
		}
	}
}

// Pass looks at every file once. A file that changed is read at the next look that
// finds it as it was at this one: before that it may be incomplete. If it never rests, or has lost most
// of its entries, its entries are added to those of its last good copy.
func (t *Files) Pass() {
	t.lookAtAll()
	t.Save()
}

func (t *Files) lookAtAll() {
	t.turn.Lock()
	defer t.turn.Unlock()
	before := *t.files.Load()
	after := make([]watched, 0, len(before))
	for _, w := range before {
		after = append(after, t.look(w))
	}
	if !slices.Equal(before, after) {
		t.files.Store(&after)
	}
}

// look returns the state of a file after one look at it.
func (t *Files) look(w watched) watched {
	now, err := stampOf(os.Stat(w.path))
	if err != nil {
		w.looked, w.looks, w.stamp = stamp{}, 0, stamp{}
		return t.troubled(w, err)
	}
	if now == w.stamp {
		w.looked, w.looks = now, 0
		return w
	}
	settled, due := now == w.looked, w.looks >= unsettledLooks
	w.looked, w.looks = now, w.looks+1
	if !settled && !due {
		return w
	}
	version := t.reads.Add(1)
	next, err := load(w.path)
	if err != nil {
		w.stamp, w.looks = next.stamp, 0 // not again before it changes
		return t.troubled(w, err)
	}
	if complete := settled && next.stamp == now; !complete {
		if !due {
			return w
		}
		w.version = version
		return t.gained(w, next, stamp{}, errRestless)
	}
	if w.doubt.untilAtRest {
		w.doubt = doubt{}
	}
	if err := shrunk(w, next.table); err != nil {
		w.version = version
		return t.gained(w, next, now, err)
	}
	t.report(w.path, next.table)
	t.reportUnjudged(w.path, next.table)
	next.read, next.version, next.doubt = t.config.Now(), version, w.doubt
	return next
}

// gained adds what a file has now to its copy in effect. If its stamp is s, it is not read again.
func (t *Files) gained(w, now watched, s stamp, why error) watched {
	w.table, w.stamp, w.looks = w.table.with(now.table), s, 0
	return t.troubled(w, why)
}

// shrunk returns an error if a file has lost most of the entries that it had when it was last applied as a whole, also
// if it has others in their place: it may be the wrong file. Entries that it gained since then do not count, so
// the trouble ends when the earlier file is back.
func shrunk(before watched, now *Table) error {
	lost := before.sound.missing(now)
	if lost < lostEntries || 2*lost <= before.whole {
		return nil
	}
	return fmt.Errorf("it has %d entries, and lacks %d that it had; entries that it gains count, and none is "+
		"removed until it has more of these again or `rcpt-milter reload` applies it", now.Len(), lost)
}

// errRestless is the trouble of a file that may be half written.
var errRestless = errors.New("it keeps changing; entries that it gains count, and none is removed until it is at rest")

// troubled records the error of a file and keeps its last good copy.
func (t *Files) troubled(w watched, err error) watched {
	if w.trouble == "" {
		w.since = t.config.Now()
	}
	if trouble := err.Error(); trouble != w.trouble {
		w.trouble = trouble
		t.config.Log.Warn("accept file cannot be used; its last good copy stays in effect", "file", w.path,
			"error", trouble, "entries", w.table.Len(), "read", w.read)
	}
	return w
}

// report logs what was read.
func (t *Files) report(path string, table *Table) {
	t.config.Log.Info("accept file read", "file", path, "entries", table.Len(),
		"domains", table.Domains(), "aliases", table.AliasCount())
	for _, c := range []struct {
		lines     func() ([]Problem, int)
		one, more string
	}{
		{table.Problems, "line of an accept file does not count", "more lines of an accept file do not count"},
		{table.Literal, "line of an accept file is taken literally",
			"more lines of an accept file are taken literally"},
		{table.Actions, "line of an accept file accepts what it seems to reject",
			"more lines of an accept file accept what they seem to reject"},
	} {
		first, all := c.lines()
		for _, p := range first {
			t.config.Log.Warn(c.one, "file", path, "line", p.Line, "error", p.Text)
		}
		if more := all - len(first); more > 0 {
			t.config.Log.Warn(c.more, "file", path, "lines", more)
		}
	}
}

// ReportUnjudged logs the entries of all files that can never match, because their domains
// are not judged. It is for the moment at which the domains have changed.
func (t *Files) ReportUnjudged() {
	for _, w := range *t.files.Load() {
		t.reportUnjudged(w.path, w.table)
	}
}

func (t *Files) reportUnjudged(path string, table *Table) {
	first, _ := table.Unjudged(t.config.Judged)
	for _, p := range first {
		t.config.Log.Warn("entries of an accept file can never match", "file", path, "line", p.Line, "error", p.Text)
	}
}
