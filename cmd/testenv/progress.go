package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// terminal prints progress: one line per step, with the time since the start in front and the
// step's own time at the end. During a step, a terminal shows its seconds; a pipe or a file gets
// the line when the step ends.
type terminal struct {
	out   io.Writer
	live  bool
	start time.Time
}

func newTerminal(out *os.File) *terminal {
	info, err := out.Stat()
	live := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &terminal{out: out, live: live, start: time.Now()}
}

// elapsed returns the time since the start in the form for line prefixes.
func (t *terminal) elapsed() string {
	return fmt.Sprintf("[%6.1fs]", time.Since(t.start).Seconds())
}

// step implements testenv.Progress.
func (t *terminal) step(name string) func(error) {
	began := time.Now()
	if !t.live {
		fmt.Fprintf(t.out, "%s %s ...\n", t.elapsed(), name)
	}
	stop := t.tick(name, began)
	return func(err error) {
		stop()
		result := "done"
		if err != nil {
			result = "FAILED"
		}
		fmt.Fprintf(t.out, "%s %s: %s in %.1f s\n", t.elapsed(), name, result, time.Since(began).Seconds())
	}
}

// tick rewrites the step's line every second until it is stopped.
func (t *terminal) tick(name string, began time.Time) (stop func()) {
	if !t.live {
		return func() {}
	}
	end := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			fmt.Fprintf(t.out, "\r%s %s ... %.0f s ", t.elapsed(), name, time.Since(began).Seconds())
			select {
			case <-end:
				fmt.Fprint(t.out, "\r\x1b[K")
				return
			case <-ticker.C:
			}
		}
	})
	return func() { close(end); ticking.Wait() }
}

// say prints one line with the elapsed time.
func (t *terminal) say(format string, args ...any) {
	fmt.Fprintf(t.out, "%s %s\n", t.elapsed(), fmt.Sprintf(format, args...))
}
