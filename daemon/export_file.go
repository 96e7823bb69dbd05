package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/internal/safely"
	"rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// exportFile keeps the file of export current. While a directory is not ready or stale, the file
// becomes the union of the last list and the present one: it gains what the daemon knows, and loses
// nothing. While the store is damaged, or the last list cannot be read, the last good file stays.
// Removals that the guard holds are in the index, and so in the file.
//
// The file rejects no recipient that the daemon would not reject for any sender: it has
// internal-only recipients, and whole domains in mode report or without a known address.
type exportFile struct {
	log      *slog.Logger
	now      func() time.Time
	config   func() *config.Config
	exporter func(*config.Config, control.ExportQuery) (exporter, error)
	health   func() store.Health
	run      func(context.Context, []string, time.Duration) error // runs a command
	changed  chan struct{}                                        // a reload has applied a configuration

	// Used by Pass only.
	done    exportedState // of the last file that was found current
	command []string      // of the last pass
	pending bool          // command has not succeeded since the file or it changed, or since the start

	mu     sync.Mutex
	status control.ExportStatus
}

// exportedState identifies what a file was made from, and the file.
type exportedState struct {
	config *config.Config
	digest string         // of the index
	files  []*table.Table // of accept_files; the tables stay in memory, so no other one gets their address
	open   string         // domains in which nothing is rejected
	doubt  string         // why the file keeps the entries of the last list; empty means that it does not
	size   int64
	time   time.Time
}

func newExportFile(d *daemon) *exportFile {
	return &exportFile{log: d.log, now: time.Now, config: d.config.Load, exporter: d.newExporter,
		health: d.store.Health, run: runCommand, changed: make(chan struct{}, 1), pending: true}
}

// Reconfigured makes Run look at the configuration in effect at once.
func (x *exportFile) Reconfigured() {
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// Run calls Pass every export.every until ctx ends.
func (x *exportFile) Run(ctx context.Context) error {
	for {
		x.Pass(ctx)
		timer := time.NewTimer(x.config().Export.Every)
		select {
		case <-ctx.Done():
		case <-x.changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Status returns the state of the file, or nil if there is none.
func (x *exportFile) Status() *control.ExportStatus {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status.File == "" {
		return nil
	}
	s := x.status
	return &s
}

// Pass makes the file current, and runs the command if the file changed. It logs errors and
// records them; the next pass tries again.
func (x *exportFile) Pass(ctx context.Context) {
	c := x.config()
	x.begin(c.Export)
	if c.Export.File == "" {
		return
	}
	err := safely.Do(x.log, "export", func() error { return x.update(ctx, c) })
	if held := heldError(""); errors.As(err, &held) {
		x.hold(string(held))
		return
	}
	if err == nil && x.pending && len(c.Export.Command) > 0 {
		err = x.run(ctx, c.Export.Command, c.Export.Timeout)
		if err == nil {
			x.log.Info("export command done", "command", c.Export.Command[0])
		}
	}
	if ctx.Err() != nil {
		return
	}
	x.pending = x.pending && err != nil
	x.finish(err)
}

// heldError says why the last good file stays.
type heldError string

func (e heldError) Error() string { return string(e) }

// check returns why the index cannot be trusted in part, or "". The error is a heldError if it cannot
// be trusted at all.
func (x *exportFile) check(e exporter) (doubt string, err error) {
	if h := x.health(); h.State == store.Damaged || h.State == store.Unreadable {
		return "", heldError(fmt.Sprintf("the store is %s", h.State))
	}
	var doubts []string
	for _, d := range e.directories {
		if !trusted(d.State) {
			doubts = append(doubts, fmt.Sprintf("directory %s is %s", d.Name, d.State))
		}
	}
	return strings.Join(doubts, ", "), nil
}

// trusted reports whether the index has all recipients of a directory in this state.
func trusted(s control.State) bool {
	return s == control.Fresh || s == control.Late || s == control.Retired
}

// update writes the file if it is not current.
func (x *exportFile) update(ctx context.Context, c *config.Config) error {
	query := control.ExportQuery{Open: true}
	e, err := x.exporter(c, query)
	if err != nil {
		return err
	}
	doubt, err := x.check(e)
	if err != nil {
		return err
	}
	state := exportedState{config: c, digest: e.store.Totals().Digest, files: e.files,
		open: fmt.Sprint(e.open, e.maybeEmpty), doubt: doubt}
	if state.stat(c.Export.File) == nil && state.equal(x.done) {
		return nil
	}
	before, _ := contentOf(c.Export.File, c.Export.Format)
	var done listTotals
	var after content
	err = table.Replace(c.Export.File, func(w io.Writer) (err error) {
		sum := &summer{w: w, format: c.Export.Format, hash: sha256.New()}
		if done, err = e.list(ctx, c.Export, doubt, x.now(), sum); err != nil {
			return err
		}
		again, err := x.exporter(c, query) // the list took a while
		if err != nil {
			return err
		}
		if now, err := x.check(again); err != nil {
			return err
		} else if doubt == "" && now != "" {
			return heldError(now) // the next pass makes the union
		}
		if after = sum.content(); after == before {
			return errSame
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSame) {
		return err
	}
	x.record(done, doubt, err == nil)
	if err := state.stat(c.Export.File); err != nil {
		return err
	}
	x.done = state
	return nil
}

// errSame ends the writing of a list that the file has already.
var errSame = errors.New("the file has this list")

// listTotals counts what a list has.
type listTotals struct {
	entries int
	kept    int // how many of them only the last list had
	omitted int // recipients that a table cannot hold
}

// list writes the list of an exporter. With a doubt it keeps the entries of the last list, and
// returns a heldError if that cannot be read, before it makes any list.
func (e exporter) list(ctx context.Context, o config.Export, doubt string, now time.Time, w io.Writer) (done listTotals,
	err error) {
	var last *os.File
	if doubt != "" {
		if last, err = openLastList(o.File); err == nil {
			defer last.Close()
			err = checkLastList(o.Format, last)
		}
		if err != nil {
			return listTotals{}, heldError(fmt.Sprintf("%s; %v", doubt, err))
		}
	}
	list := NewRecipientList(ListOptions{Format: o.Format, File: o.File, Restricted: true, Force: doubt != "",
		Kept: doubt}, w)
	e.query.Force = doubt != ""
	e.tell = func(event control.ExportEvent) error {
		if event.Head != nil {
			list.Head = *event.Head
		}
		return list.Add(event.Recipients)
	}
	if err := e.run(ctx, now); err != nil {
		return listTotals{}, err
	}
	if doubt != "" {
		if done.kept, err = e.keep(list, last); errors.Is(err, errLastList) {
			return listTotals{}, heldError(fmt.Sprintf("%s; %v", doubt, err))
		} else if err != nil {
			return listTotals{}, err
		}
	}
	done.entries, err = list.End()
	done.omitted = list.Omitted()
	return done, err
}

// keep completes a list by the last one. Enforced domains that no directory in doubt can
// show to be empty are listed as a whole, unless the last list names them.
func (e exporter) keep(list *RecipientList, last io.Reader) (kept int, err error) {
	named := map[string]bool{}
	kept, err = list.Keep(last, func(r control.Recipient) {
		if domain := r.Address[strings.LastIndexByte(r.Address, '@')+1:]; slices.Contains(e.maybeEmpty, domain) {
			named[domain] = true
		}
	})
	if err != nil {
		return 0, err
	}
	for _, domain := range e.maybeEmpty {
		if named[domain] || strings.HasPrefix(domain, ".") {
			continue
		}
		if err := list.Add([]control.Recipient{{Address: "@" + domain, Source: control.SourceEmpty}}); err != nil {
			return 0, err
		}
	}
	return kept, nil
}

// equal reports whether nothing has changed that the file depends on.
func (s exportedState) equal(o exportedState) bool {
	return s.config == o.config && s.digest == o.digest && slices.Equal(s.files, o.files) && s.open == o.open &&
		s.doubt == o.doubt && s.size == o.size && s.time.Equal(o.time)
}

// stat records size and time of the file.
func (s *exportedState) stat(file string) error {
	info, err := os.Stat(file)
	if err == nil {
		s.size, s.time = info.Size(), info.ModTime()
	}
	return err
}

// content is the hash of a list without its comments, which have the time. Zero means no list.
type content [sha256.Size]byte

// contentOf returns the content of a file.
func contentOf(file, format string) (content, error) {
	f, err := table.Open(file)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return content{}, err // table.Replace reports it
	}
	sum := &summer{w: io.Discard, format: format, hash: sha256.New()}
	if _, err := io.Copy(sum, bufio.NewReaderSize(f, 64<<10)); err != nil {
		return content{}, err
	}
	return sum.content(), nil
}

// summer hashes the lines that it passes on, without the comments of a table.
type summer struct {
	w      io.Writer
	format string
	hash   interface {
		io.Writer
		Sum([]byte) []byte
	}
	rest []byte // the beginning of a line
}

func (s *summer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			s.rest = append(s.rest, rest...)
			break
		}
		s.line(append(s.rest, rest[:end]...))
		s.rest, rest = s.rest[:0], rest[end:]
	}
	return s.w.Write(p)
}

func (s *summer) line(line []byte) {
	if s.format != "postmap" || !bytes.HasPrefix(line, []byte("#")) {
		s.hash.Write(line)
	}
}

func (s *summer) content() (sum content) {
	s.line(s.rest)
	copy(sum[:], s.hash.Sum(nil))
	return sum
}
