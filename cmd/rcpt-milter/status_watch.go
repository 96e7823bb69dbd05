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
		return &exitError{exitUsage,
			errors.New("--watch needs a terminal that can move its cursor; for anything else " +
				"there are --json and --nagios")}
	}
	if every < 500*time.Millisecond {
		return &exitError{exitUsage, fmt.Errorf("--every: expected 500ms or longer, got %v", every)}
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	keys, restore := terminal.ReadKeys(os.Stdin)
	defer restore() // Ctrl-C works without raw mode
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	w := &watcher{app: a, Screen: terminal.NewScreen(screen), every: every, fetch: client.Status}
	return w.run(ctx, ticker.C, keys, resized)
}

// watcher draws the status and the sparklines.
type watcher struct {
	*app
	*terminal.Screen
	every time.Duration
	fetch func(context.Context) (control.Status, error)

	status           control.Status // the latest one; zero before the first
	pending          time.Time      // when the pending request was sent; zero if there is none
	unreachableSince time.Time      // zero if the daemon is reachable
	trouble          error

	polledAt time.Time // time of status
	counts   control.Judged
	rates    [2]terminal.Trail // of all decisions and of rejections, for each second
	passes   map[string]*passTimes
}

// passTimes are the durations of the passes of one directory.
type passTimes struct {
	number  uint64
	seconds terminal.Trail
}

// run draws at the start, at each tick, answer and key, and when the size changes. Keys work
// while an answer is pending.
func (w *watcher) run(ctx context.Context, ticks <-chan time.Time, keys <-chan byte, resized <-chan os.Signal) error {
	w.Enter()
	defer w.Leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan pollResult, 1)
	w.poll(ctx, answers)
	for {
		w.draw()
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if w.pending.IsZero() {
				w.poll(ctx, answers)
			}
		case a := <-answers:
			w.pending = time.Time{}
			w.record(a)
		case <-resized:
		case key := <-keys:
			if !w.Key(key) {
				return nil
			}
		}
	}
}

// pollResult is the answer of the daemon, or an error.
type pollResult struct {
	status control.Status
	err    error
}

// poll requests the status. The channel has room for the answer, so poll ends even after run.
func (w *watcher) poll(ctx context.Context, answers chan<- pollResult) {
	w.pending = w.now()
	go func() {
		s, err := w.fetch(ctx)
		answers <- pollResult{s, err}
	}()
}

// record keeps an answer, and the values for the sparklines.
func (w *watcher) record(a pollResult) {
	s, now := a.status, w.now()
	if a.err != nil {
		if w.unreachableSince.IsZero() {
			w.unreachableSince = now
		}
		w.trouble = a.err
		w.rate(0, 0)
		return
	}
	counts := s.Judged()
	if elapsed := now.Sub(w.polledAt).Seconds(); w.unreachableSince.IsZero() &&
		s.Started.Equal(w.status.Started.Time) && elapsed > 0 {
		all, refused := counts.Total()-w.counts.Total(), counts.Refused-w.counts.Refused
		w.rate(float64(all)/elapsed, float64(refused)/elapsed)
	}
	w.recordPasses(s)
	w.status, w.counts, w.polledAt, w.unreachableSince, w.trouble = s, counts, now, time.Time{}, nil
}

func (w *watcher) rate(all, refused float64) {
	for i, v := range []float64{all, refused} {
		w.rates[i].Add(v)
	}
}

// recordPasses adds the passes since the last answer.
func (w *watcher) recordPasses(s control.Status) {
	if w.passes == nil {
		w.passes = map[string]*passTimes{}
	}
	for _, d := range s.Directories {
		newest := d.LastIncremental
		if newest == nil || d.LastFull != nil && d.LastFull.Number > newest.Number {
			newest = d.LastFull
		}
		trail := w.passes[d.Name]
		if trail == nil {
			trail = &passTimes{}
			w.passes[d.Name] = trail
		}
		if newest == nil || newest.Number == trail.number {
			continue
		}
		trail.number = newest.Number
		trail.seconds.Add(newest.Seconds)
	}
}

func (w *watcher) draw() {
	columns, _ := w.Size()
	w.Draw(w.lines(columns))
}

// lines returns the head, the sparklines and the page.
func (w *watcher) lines(columns int) []string {
	p := &terminal.Page{Colours: terminal.HasColours(w.Out), Width: columns, Narrow: true}
	fmt.Fprintf(p, "%s   every %v, q ends\n", w.now().Format("15:04:05"), w.every)
	if waited := w.now().Sub(w.pending); !w.pending.IsZero() && waited > w.every {
		p.Title(p.Paint("no answer for "+text.Duration(waited)+", still waiting", terminal.Red))
	} else if w.trouble != nil {
		p.Title(p.Paint("not reachable for "+text.Duration(w.now().Sub(w.unreachableSince))+", still "+
			"trying: "+text.Printable(firstLine(w.trouble)), terminal.Red))
	}
	for i, label := range []string{"decisions", "refusals"} {
		p.Trail(label, w.rates[i], fmt.Sprintf("%.1f a second", w.rates[i].Last()))
	}
	for _, d := range w.status.Directories {
		if trail := w.passes[d.Name]; trail != nil && len(trail.seconds) > 0 {
			p.Trail("passes of "+text.Printable(d.Name), trail.seconds,
				fmt.Sprintf("%.3f s the last", trail.seconds.Last()))
		}
	}
	p.WriteByte('\n')
	if w.status.State != "" {
		w.console().Status(p, w.status)
	}
	return strings.Split(strings.TrimSuffix(p.String(), "\n"), "\n")
}
