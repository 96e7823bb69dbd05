package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
)

func (a *app) syncCommand() *cobra.Command {
	var q control.SyncQuery
	command := &cobra.Command{
		Use:   "sync",
		Short: "Start a pass of every directory now",
		Long:  "Starts a pass of every directory now. Interrupting the command does not stop the passes.",
		Args:  noArguments,
		RunE:  func(command *cobra.Command, _ []string) error { return a.sync(command.Context(), q) },
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
	progress := progress{app: a, shown: isTerminal(a.stdout)}
	err = client.Sync(ctx, q, progress.event)
	progress.clear()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no longer waiting; the passes go on")
	}
	if err == nil && !q.Wait {
		_, err = fmt.Fprintln(a.stdout, "Passes are under way; see \"rcpt-milter status\", or wait for them with --wait.")
	}
	return err
}

// progress shows passes under way on one line of a terminal, and passes that ended on
// a line each, on a terminal or not.
type progress struct {
	*app
	shown bool
	dirty bool
}

func (p *progress) event(e control.SyncEvent) {
	p.clear()
	name := printable(e.Directory)
	switch {
	case e.Error != "": // the end of the answer repeats it
	case e.Pass != nil:
		fmt.Fprintf(p.stdout, "%s: %s %s, %s\n", name, printable(e.Kind), outcome(*e.Pass), printable(e.Pass.Result))
	case p.shown:
		fmt.Fprintf(p.stdout, "%s: %s pass, %s%s", name, printable(e.Kind), bar(e), seen(e))
		p.dirty = true
	}
}

// barWidth is how many columns a bar has.
const barWidth = 20

// bar shows how far a pass is of which that is known; what was expected may be too little.
func bar(e control.SyncEvent) string {
	if e.Expected <= 0 {
		return ""
	}
	full := int(min(e.Seen, e.Expected) * barWidth / e.Expected)
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + " "
}

// clear takes the line of the pass under way back.
func (p *progress) clear() {
	if p.dirty {
		fmt.Fprint(p.stdout, "\r\x1b[K")
		p.dirty = false
	}
}
