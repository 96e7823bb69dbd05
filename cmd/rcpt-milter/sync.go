package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/control/console"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) syncCommand() *cobra.Command {
	var q control.SyncQuery
	command := &cobra.Command{
		Use:   "sync",
		Short: "Start a pass of every directory now",
		Long: "Starts a pass of every directory now. The passes continue if the command is\n" +
			"interrupted.\n\n" +
			"Exit status: 0 the passes have started, or have succeeded with --wait; 1 one of\n" +
			"them failed, or the command was interrupted.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.sync(command.Context(), q) },
	}
	command.Flags().BoolVar(&q.Full, "full", false, "read everything, not only what changed")
	command.Flags().BoolVar(&q.Wait, "wait", false, "wait until the passes have ended")
	return command
}

func (a *app) sync(ctx context.Context, q control.SyncQuery) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	progress := newProgress(a, terminal.IsScreen(a.stdout))
	err = client.Sync(ctx, q, progress.event)
	progress.Clear()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no longer waiting; the passes go on")
	}
	if err == nil && !q.Wait {
		_, err = fmt.Fprintln(a.stdout, "Passes are under way; see \"rcpt-milter status\", or wait for them with "+
			"--wait.")
	}
	return err
}

// progress shows running passes on one line of a terminal. It prints a line for each pass that
// has ended, also without a terminal.
type progress struct {
	*app
	terminal.Progress
	running []control.SyncEvent // in the order in which the passes began
}

func newProgress(a *app, shown bool) *progress {
	return &progress{app: a, Progress: terminal.Progress{Out: a.stdout, Shown: shown}}
}

func (p *progress) event(e control.SyncEvent) {
	p.Clear()
	over := e.Error != "" || e.Pass != nil
	at := slices.IndexFunc(p.running, func(r control.SyncEvent) bool { return r.Directory == e.Directory })
	switch {
	case over && at >= 0:
		p.running = slices.Delete(p.running, at, at+1)
	case at >= 0:
		p.running[at] = e
	case !over:
		p.running = append(p.running, e)
	}
	if e.Error == "" && e.Pass != nil { // the final error repeats it
		fmt.Fprintf(p.stdout, "%s: %s %s, %s\n", text.Printable(e.Directory), text.Printable(e.Kind),
			console.PassSummary(*e.Pass),
			text.Printable(e.Pass.Result))
	}
	p.draw()
}

// draw writes the line of the running passes.
func (p *progress) draw() {
	var passes []string
	for _, e := range p.running {
		bar := terminal.Bar(e.Seen, e.Expected)
		if bar != "" {
			bar += " "
		}
		passes = append(passes, fmt.Sprintf("%s: %s pass, %s%s", text.Printable(e.Directory), text.Printable(e.Kind),
			bar, console.Progress(e)))
	}
	p.Draw(strings.Join(passes, "; "))
}
