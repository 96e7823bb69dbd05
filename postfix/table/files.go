package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	// Tick returns the channel that Run waits for, and a stop function; nil means time.Ticker.
	Tick func(time.Duration) (<-chan time.Time, func())
}

// Files are the tables of several files, kept in step with them. Which files those are
// may change. Make it with NewFiles.
type Files struct {
	config Config
	turn   sync.Mutex                // held while files change
	files  atomic.Pointer[[]watched] // never changed in place
}

// watched is one file and its last good copy.
type watched struct {
	path     string
	table    *Table    // the last good copy
	read     time.Time // when that was read
	modified time.Time // modification time of the file from which it was read
	stamp    stamp     // of the file when it was read or rejected
	looked   stamp     // at the last look
	looks    int       // successive looks that differed from stamp
	trouble  string    // why table is an older copy; empty if it is current
	since    time.Time // start of the trouble
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
	if config.Every == 0 {
		config.Every = defaultEvery
	}
	if config.Tick == nil {
		config.Tick = func(every time.Duration) (<-chan time.Time, func()) {
			ticker := time.NewTicker(every)
			return ticker.C, ticker.Stop
		}
	}
	t := &Files{config: config}
	t.files.Store(&[]watched{})
	return t
}

// Prepared are files that were read for Use.
type Prepared struct{ files []watched }

// Prepare reads files, and changes nothing. The error is that of every file that cannot
// be used and of which there is no last good copy. One without a single address is of no
// use either: it may have been truncated.
func (t *Files) Prepare(files []string) (Prepared, error) {
	var p Prepared
	var failed []error
	for _, path := range files {
		w, err := t.prepare(path)
		if err != nil {
			failed = append(failed, err)
		}
		p.files = append(p.files, w)
	}
	return p, errors.Join(failed...)
}

// prepare reads one file, or returns its last good copy.
func (t *Files) prepare(path string) (watched, error) {
	now, err := load(path)
	if err == nil {
		t.report(path, now.table)
		now.read = t.config.Now()
		return now, nil
	}
	for _, before := range *t.files.Load() {
		if before.path == path {
			before.stamp = now.stamp
			return t.troubled(before, err), nil
		}
	}
	return watched{}, err
}

// Use replaces the files. Look-ups follow their order.
func (t *Files) Use(p Prepared) { t.Change(p, func() {}) }

// Change replaces the files and calls swap. During swap, look-ups use the previous files and
// these, so an address in either is found at every moment.
func (t *Files) Change(p Prepared, swap func()) {
	t.turn.Lock()
	defer t.turn.Unlock()
	before := *t.files.Load()
	after := slices.Clone(p.files)
	for i, w := range after {
		at := slices.IndexFunc(before, func(b watched) bool { return b.path == w.path })
		if at >= 0 && before[at].read.After(w.read) { // a look has read a newer version since Prepare
			after[i] = before[at]
		}
	}
	both := append(slices.Clone(after), before...)
	t.files.Store(&both)
	swap()
	t.files.Store(&after)
}

// load reads a file, which must have an entry. It does not set the time of reading. The stamp
// is zero if the file changed meanwhile; the modification time is that before the change. After
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
		return watched{stamp: s}, err
	}
	modified := time.Unix(s.modified.Unix())
	if after, err := stampOf(os.Stat(path)); err != nil || after != s {
		s = stamp{}
	}
	if table.Len() == 0 {
		return watched{stamp: s}, fmt.Errorf("%s: %w", path, noEntry(table))
	}
	return watched{path: path, table: table, modified: modified, stamp: s, looked: s}, nil
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
	File      string
	Entries   int       // mailboxes and domains in effect
	Domains   int       // how many of them are @domain
	Aliases   int       // how many of them map a domain to others
	Read      time.Time // when they were read
	Modified  time.Time // modification time of the file from which they were read
	Trouble   string    // why they are an older copy; empty if they are current
	Since     time.Time // when that began
	Problems  []Problem // the first invalid lines
	Unread    int       // number of invalid lines
	Unjudged  []Problem // the first lines of domains that are not judged
	Unmatched int       // number of entries of these domains
}

// Status returns the state of all files in their order.
func (t *Files) Status() []FileStatus {
	var all []FileStatus
	for _, w := range *t.files.Load() {
		s := FileStatus{File: w.path, Entries: w.table.Len(), Domains: w.table.Domains(), Aliases: w.table.AliasCount(),
			Read: w.read, Modified: w.modified, Trouble: w.trouble, Since: w.since}
		s.Problems, s.Unread = w.table.Problems()
		s.Unjudged, s.Unmatched = w.table.Unjudged(t.config.Judged)
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
	next, err := load(w.path)
	if err != nil {
		w.stamp, w.looks = next.stamp, 0 // not again before it changes
		return t.troubled(w, err)
	}
	if complete := settled && next.stamp == now; !complete {
		if !due {
			return w
		}
		w.table, w.stamp, w.looks = w.table.with(next.table), stamp{}, 0
		return t.troubled(w, errRestless)
	}
	if before, after := w.table.Len(), next.table.Len(); before-after >= lostEntries && 2*after < before {
		w.table, w.stamp, w.looks = w.table.with(next.table), now, 0
		return t.troubled(w, fmt.Errorf("it has %d entries; entries that it gains count, and none goes before it has more "+
			"again or `rcpt-milter reload` applies it", after))
	}
	t.report(w.path, next.table)
	t.reportUnjudged(w.path, next.table)
	next.read = t.config.Now()
	return next
}

// errRestless is the trouble of a file that may be half written.
var errRestless = errors.New("it keeps changing; entries that it gains count, and none goes before it is at rest")

// troubled records the error of a file and keeps its last good copy.
func (t *Files) troubled(w watched, err error) watched {
	trouble := err.Error()
	if trouble != w.trouble {
		w.trouble, w.since = trouble, t.config.Now()
		t.config.Log.Warn("accept file cannot be used; its last good copy stays in effect", "file", w.path,
			"error", trouble, "entries", w.table.Len(), "read", w.read)
	}
	return w
}

// report logs what was read.
func (t *Files) report(path string, table *Table) {
	t.config.Log.Info("accept file read", "file", path, "entries", table.Len(),
		"domains", table.Domains(), "aliases", table.AliasCount())
	first, all := table.Problems()
	for _, p := range first {
		t.config.Log.Warn("line of an accept file does not count", "file", path, "line", p.Line, "error", p.Text)
	}
	if more := all - len(first); more > 0 {
		t.config.Log.Warn("more lines of an accept file do not count", "file", path, "lines", more)
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
