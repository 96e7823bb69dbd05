package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
)

// watched is a watcher of a daemon that answers as the test wants, without a terminal.
type watched struct {
	*watcher
	out     bytes.Buffer
	columns int
	rows    int
	answer  control.Status
	err     error
	clock   time.Time
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	d := &watched{columns: 80, rows: 60, answer: consoleStatus(t, "fresh"), clock: noon}
	a := &app{stdout: &d.out, stderr: &d.out, now: func() time.Time { return d.clock }}
	screen := &terminal.Screen{Out: &d.out, Size: func() (int, int) { return d.columns, d.rows }}
	d.watcher = &watcher{app: a, Screen: screen, every: 2 * time.Second,
		fetch: func(context.Context) (control.Status, error) { return d.answer, d.err }}
	return d
}

// step lets time pass, looks and draws; it gives what the screen shows.
func (d *watched) step(t *testing.T) string {
	t.Helper()
	d.clock = d.clock.Add(2 * time.Second)
	status, err := d.fetch(t.Context())
	d.record(pollResult{status, err})
	d.out.Reset()
	d.draw()
	lines := strings.Split(ansi.Strip(strings.ReplaceAll(d.out.String(), "\r", "")), "\n")
	if len(lines) > d.rows {
		t.Errorf("%d lines on a screen of %d", len(lines), d.rows)
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > d.columns {
			t.Errorf("%d columns on a screen of %d: %q", n, d.columns, line)
		}
	}
	return strings.Join(lines, "\n")
}

// head returns the part of a screen above the status.
func head(screen string) string {
	above, _, _ := strings.Cut(screen, "\n\n")
	return above + "\n"
}

// judge lets the daemon judge more recipients.
func (d *watched) judge(known, unknown int64) {
	next := map[string]int64{}
	for verdict, n := range d.answer.Decisions {
		next[verdict] = n
	}
	next["known"] += known
	next["unknown"] += unknown
	d.answer.Decisions = next
}

func TestWatch(t *testing.T) {
	d := newWatched(t)
	d.step(t)
	d.judge(10, 2)
	d.step(t)
	d.judge(20, 0)
	d.answer.Directories[0].LastIncremental = &control.PassStatus{Number: 1235, Started: before(0), Seconds: 0.5,
		Result: control.ResultOK}
	wantRates := func(decisions, rejections float64) {
		t.Helper()
		if d.rates[0].Last() != decisions || d.rates[1].Last() != rejections {
			t.Errorf("rates %v, want %v and %v at the end", d.rates, decisions, rejections)
		}
	}
	screen := d.step(t)
	wantRates(10, 0)
	if last := d.passes["corp"].seconds.Last(); last != 0.5 || !strings.Contains(screen, "corp.example") {
		t.Errorf("the last pass took %v s, and the screen is\n%s", last, screen)
	}
	heads := head(screen)
	// The daemon goes away; what was known stays.
	d.err = fmt.Errorf("%w at unix:/x: no answer", control.ErrNotReachable)
	d.step(t)
	screen = d.step(t)
	wantRates(0, 0)
	if !errors.Is(d.trouble, control.ErrNotReachable) || !strings.Contains(screen, "corp.example") {
		t.Errorf("trouble %v, and the screen is\n%s", d.trouble, screen)
	}
	heads += head(screen)
	// Another one comes, which counts from nothing.
	d.err = nil
	d.answer = consoleStatus(t, "fresh")
	d.answer.Started, d.answer.Decisions, d.answer.WouldRefuse = before(-time.Minute), map[string]int64{"known": 1}, nil
	d.step(t)
	d.judge(6, 0)
	heads += head(d.step(t))
	wantRates(3, 0)
	if d.trouble != nil {
		t.Errorf("after a restart: %v", d.trouble)
	}
	compare(t, "watch.txt", heads)
	for _, v := range d.rates[0] {
		if v < 0 {
			t.Errorf("a negative rate: %v", d.rates[0])
		}
	}
}

// TestWatchFits: whatever the size of the screen, and it scrolls.
func TestWatchFits(t *testing.T) {
	d := newWatched(t)
	d.answer = consoleStatus(t, "troubled")
	for _, size := range [][2]int{{200, 100}, {80, 24}, {40, 10}, {20, 3}, {1, 2}} {
		d.columns, d.rows = size[0], size[1]
		d.step(t)
	}
	d.columns, d.rows = 80, 10
	top := d.step(t)
	for _, key := range []byte("\x1b[Bjjj ") {
		if !d.Key(key) {
			t.Errorf("key %q ends it", key)
		}
	}
	if down := d.step(t); down == top {
		t.Errorf("it does not scroll:\n%s", down)
	}
}

// TestWatchEnds by keys, and by the context; the screen is put back.
func TestWatchEnds(t *testing.T) {
	for _, key := range []byte{'q', 3, 4, 0} {
		d := newWatched(t)
		ctx, cancel := context.WithCancel(t.Context())
		keys, ticks, resized := make(chan byte, 1), make(chan time.Time, 1), make(chan os.Signal, 1)
		ticks <- noon
		resized <- os.Interrupt
		if key == 0 {
			cancel()
		} else {
			keys <- key
		}
		if err := d.run(ctx, ticks, keys, resized); err != nil {
			t.Errorf("key %d: %v", key, err)
		}
		cancel()
		if out := d.out.String(); !strings.HasPrefix(out, ansi.SetModeAltScreenSaveCursor) ||
			!strings.HasSuffix(out, ansi.ResetModeAltScreenSaveCursor) {
			t.Errorf("key %d: the screen is not put back: %q", key, out[max(0, len(out)-40):])
		}
	}
}

// TestNagiosCommand: the states of the plugin interface, on one line of stdout.
func TestNagiosCommand(t *testing.T) {
	r := newRig(t)
	expect := func(status int, word, name string) {
		t.Helper()
		got, stdout, stderr := r.command("status", "--nagios")
		if got != status || !strings.HasPrefix(stdout, "RCPT-MILTER "+word+" - ") || !strings.Contains(stdout, name) ||
			strings.Count(stdout, "\n") != 1 || stderr != "" {
			t.Errorf("status %d, want %d, %s and %q:\n%s%s", got, status, word, name, stdout, stderr)
		}
	}
	expect(3, "UNKNOWN", r.dir)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	expect(0, "OK", "'age_corp'=")
	r.server.Down()
	r.want(exitFailure, "sync", "--wait")
	expect(1, "WARNING", "directory corp")
	r.edit("domains:", "domans:")
	expect(1, "WARNING", "directory corp") // it runs by the file before
	r.want(exitUsage, "status", "--nagios", "--json")
	if out := r.want(exitUsage, "status", "--watch"); !strings.Contains(out, "--watch") {
		t.Errorf("--watch without a terminal says %s", out)
	}
}
