package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// watch shows the status on a screen of its own until q, Ctrl-C or the end of ctx.
func (a *app) watch(ctx context.Context, every time.Duration) error {
	screen, ok := a.stdout.(*os.File)
	if !ok || !terminal.IsScreen(screen) {
		return &exit{exitUsage, errors.New("--watch needs a terminal that can move its cursor; for anything else there are --json and --nagios")}
	}
	if every < 500*time.Millisecond {
		return &exit{exitUsage, fmt.Errorf("--every: expected 500ms or longer, got %v", every)}
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	keys, restore := terminal.ReadKeys(os.Stdin)
	defer restore() // without a keyboard Ctrl-C still ends it
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	w := &watcher{app: a, Screen: terminal.NewScreen(screen), every: every, fetch: client.Status}
	return w.run(ctx, ticker.C, keys, resized)
}

// watcher draws the status, and keeps what sparklines are drawn from.
type watcher struct {
	*app
	*terminal.Screen
	every time.Duration
	fetch func(context.Context) (control.Status, error)

	status  control.Status // the last one there was; zero: none yet
	asked   time.Time      // when the daemon was asked that has not answered yet; zero: it has
	since   time.Time      // not reachable since; zero: it is
	trouble error

	taken  time.Time // when status was
	counts control.Judged
	rates  [2][]float64 // of all decisions, and of refusals, in each second
	passes map[string]*passTrail
}

// passTrail is how long the passes of one directory took.
type passTrail struct {
	number  uint64
	seconds []float64
}

// samples is how many values a sparkline can need.
const samples = 400

// run draws at once, at every tick, answer and key, and when the size changes. A daemon
// that does not answer keeps nobody from leaving.
func (w *watcher) run(ctx context.Context, ticks <-chan time.Time, keys <-chan byte, resized <-chan os.Signal) error {
	w.Enter()
	defer w.Leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answered, 1)
	w.ask(ctx, answers)
	for {
		w.draw()
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if w.asked.IsZero() {
				w.ask(ctx, answers)
			}
		case a := <-answers:
			w.asked = time.Time{}
			w.take(a)
		case <-resized:
		case key := <-keys:
			if !w.Key(key) {
				return nil
			}
		}
	}
}

// answered is what came of asking the daemon.
type answered struct {
	status control.Status
	err    error
}

// ask asks the daemon; there is room for the answer even if nobody waits for it any more.
func (w *watcher) ask(ctx context.Context, answers chan<- answered) {
	w.asked = w.now()
	go func() {
		s, err := w.fetch(ctx)
		answers <- answered{s, err}
	}()
}

// take notes an answer, and what sparklines need.
func (w *watcher) take(a answered) {
	s, now := a.status, w.now()
	if a.err != nil {
		if w.since.IsZero() {
			w.since = now
		}
		w.trouble = a.err
		w.rate(0, 0)
		return
	}
	counts := control.JudgedOf(s)
	if elapsed := now.Sub(w.taken).Seconds(); w.since.IsZero() && s.Started.Equal(w.status.Started.Time) && elapsed > 0 {
		all, refused := counts.Total()-w.counts.Total(), counts.Refused-w.counts.Refused
		w.rate(float64(all)/elapsed, float64(refused)/elapsed)
	}
	w.notePasses(s)
	w.status, w.counts, w.taken, w.since, w.trouble = s, counts, now, time.Time{}, nil
}

func (w *watcher) rate(all, refused float64) {
	for i, v := range []float64{all, refused} {
		w.rates[i] = append(w.rates[i], v)
		if len(w.rates[i]) > samples {
			w.rates[i] = w.rates[i][1:]
		}
	}
}

// notePasses adds the passes that are new since the last look.
func (w *watcher) notePasses(s control.Status) {
	if w.passes == nil {
		w.passes = map[string]*passTrail{}
	}
	for _, d := range s.Directories {
		newest := d.LastIncremental
		if newest == nil || d.LastFull != nil && d.LastFull.Number > newest.Number {
			newest = d.LastFull
		}
		trail := w.passes[d.Name]
		if trail == nil {
			trail = &passTrail{}
			w.passes[d.Name] = trail
		}
		if newest == nil || newest.Number == trail.number {
			continue
		}
		trail.number = newest.Number
		if trail.seconds = append(trail.seconds, newest.Seconds); len(trail.seconds) > samples {
			trail.seconds = trail.seconds[1:]
		}
	}
}

func (w *watcher) draw() {
	columns, _ := w.Size()
	w.Draw(w.lines(columns))
}

// lines are the head, the sparklines and the page.
func (w *watcher) lines(columns int) []string {
	p := &terminal.Page{Colours: terminal.HasColours(w.Out), Width: columns, Narrow: true}
	fmt.Fprintf(p, "%s   every %v, q ends\n", w.now().Format("15:04:05"), w.every)
	if waited := w.now().Sub(w.asked); !w.asked.IsZero() && waited > w.every {
		p.Title(p.Paint("no answer for "+text.Duration(waited)+", still waiting", "31"))
	} else if w.trouble != nil {
		p.Title(p.Paint("not reachable for "+text.Duration(w.now().Sub(w.since))+", still trying: "+text.Printable(firstLine(w.trouble)), "31"))
	}
	width := max(8, p.Room()-sparkNote)
	for i, label := range []string{"decisions", "refusals"} {
		p.Line(label, noted(terminal.Spark(w.rates[i], width), width, fmt.Sprintf("%.1f a second", last(w.rates[i]))))
	}
	for _, d := range w.status.Directories {
		if trail := w.passes[d.Name]; trail != nil && len(trail.seconds) > 0 {
			p.Line("passes of "+text.Printable(d.Name), noted(terminal.Spark(trail.seconds, width), width, fmt.Sprintf("%.3f s the last", last(trail.seconds))))
		}
	}
	p.WriteByte('\n')
	if w.status.State != "" {
		w.write(p, w.status)
	}
	return strings.Split(strings.TrimSuffix(p.String(), "\n"), "\n")
}

// sparkNote is the room for what stands behind a sparkline.
const sparkNote = 19

// noted puts a note behind a sparkline, always in the same column.
func noted(line string, width int, note string) string {
	return line + strings.Repeat(" ", max(0, width-len([]rune(line)))+2) + note
}

func last(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}
