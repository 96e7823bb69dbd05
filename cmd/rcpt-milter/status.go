package main

import (
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the index and of each directory",
		Long: "Shows the state of the index and of each directory.\n\n" +
			"Exit status: 0 fresh; 1 late, removals held, a directory failing or an alarm; 2 stale or not ready.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			s, err := client.Status(command.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(a.stdout, s)
			} else {
				err = a.printStatus(s)
			}
			if status := statusExit(s); err == nil && status != exitOK {
				return &exit{status: status}
			}
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

// statusExit is how well the daemon is, as an exit status.
func statusExit(s control.Status) int {
	state := s.State
	attention := s.ReloadError != "" || len(s.Alarms) > 0
	for _, f := range s.AcceptFiles {
		attention = attention || f.Trouble != ""
	}
	for _, d := range s.Directories {
		state = control.Worst(state, d.State)
		attention = attention || d.LastError != "" || d.HeldRemovals > 0
	}
	switch {
	case state == control.Fresh && !attention:
		return exitOK
	case state == control.Fresh || state == control.Late:
		return exitFailure
	default:
		return exitTemporary
	}
}

// page lays out text for people: labels in a column of their own.
type page struct {
	strings.Builder
	colours bool
}

const labelWidth = 20

// line writes a label and what it stands for.
func (p *page) line(label, text string) {
	p.WriteString("  " + label + strings.Repeat(" ", max(1, labelWidth-len(label))))
	p.WriteString(text + "\n")
}

// more continues the line above.
func (p *page) more(text string) { p.line("", text) }

// state is a state in words, in the colour of its weight.
func (p *page) state(s control.State) string {
	words := strings.ReplaceAll(printable(string(s)), "_", " ")
	colour := "31" // red
	switch s {
	case control.Fresh:
		colour = "32" // green
	case control.Late, control.Retired:
		colour = "33" // yellow
	}
	return p.painted(words, colour)
}

// warn makes text stand out.
func (p *page) warn(text string) string { return p.painted(text, "33") }

func (p *page) painted(text, colour string) string {
	if !p.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
