package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

func (a *app) compareCommand() *cobra.Command {
	var q control.CompareQuery
	var asJSON bool
	var file string
	command := &cobra.Command{
		Use:   "compare",
		Short: "Compare the index with the directories, or with a table",
		Long: "Reads the directories in full over connections of its own, and reports each\n" +
			"address that only the index or only a directory has. It changes nothing. It\n" +
			"looks at each difference again after another pass, and does not report what has\n" +
			"changed in the meantime. For removals that wait it names the reason.\n\n" +
			"With --table it compares the index with a table in Postfix's source format,\n" +
			"such as an old relay_recipient_maps. It reports addresses that only the table\n" +
			"has, whether a directory had them before, and recipients that the table lacks.\n" +
			"It counts entries in domains that are not judged, but does not list them.\n\n" +
			"Exit status: 0 equal, 1 different, also because of removals that wait, 2 a\n" +
			"directory or the table could not be read, or the command was interrupted.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if file != "" && q.Directory != "" {
				return &exitError{exitUsage, errors.New("--table compares with the whole index; leave --directory out")}
			}
			if file != "" {
				return a.compareTable(command.Context(), file, asJSON)
			}
			return a.compare(command.Context(), q, asJSON)
		},
	}
	command.Flags().StringVar(&q.Directory, "directory", "", "only the directory with this `NAME`")
	command.Flags().StringVar(&file, "table", "", "compare with this `FILE`, a table in Postfix's source format")
	command.Flags().BoolVar(&asJSON, "json", false, "as JSON, for tools")
	return command
}

// comparison prints the events of a comparison.
type comparison interface {
	add(control.CompareEvent) error
	end(equal bool) error
	interrupted()
}

func (a *app) compare(ctx context.Context, q control.CompareQuery, asJSON bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var shown comparison = &comparePage{app: a, progress: terminal.Progress{Out: a.stdout,
		Shown: terminal.IsTerminal(a.stdout)}}
	if asJSON {
		shown = newCompareJSON(a.stdout)
	}
	equal := true
	err = client.Compare(ctx, q, func(e control.CompareEvent) error {
		equal = equal && (e.Directory == nil || e.Directory.Equal())
		return shown.add(e)
	})
	switch {
	case errors.Is(err, control.ErrNotReachable):
		return err
	case ctx.Err() != nil: // status 1 would mean a difference
		shown.interrupted()
		return &exitError{exitTemporary, ctx.Err()}
	}
	if failed := shown.end(equal && err == nil); failed != nil {
		return failed
	}
	switch {
	case err != nil:
		return &exitError{exitTemporary, err}
	case !equal:
		return &exitError{status: exitFailure}
	}
	return nil
}

// comparePage prints text.
type comparePage struct {
	*app
	progress terminal.Progress
	block    [][]string
}

func (c *comparePage) add(e control.CompareEvent) error {
	c.progress.Clear()
	switch {
	case e.Progress != nil:
		c.progress.Draw(fmt.Sprintf("%s: comparing, %s", text.Printable(e.Progress.Directory),
			text.Count(e.Progress.Objects, "object", "objects")))
	case e.Difference != nil:
		d := e.Difference
		c.block = append(c.block, []string{text.Printable(d.Address), text.Printable(control.ObjectName(d.DN, d.GUID)),
			text.Printable(d.Class),
			locationOf(*d), c.cause(*d)})
		if len(c.block) == blockRows {
			return c.flush()
		}
	case e.Directory != nil:
		if err := c.flush(); err != nil {
			return err
		}
		c.directory(*e.Directory)
	}
	return nil
}

// locationOf says which side has an address.
func locationOf(d control.Difference) string {
	switch {
	case d.InIndex && d.InDirectory:
		return "restricted on one side"
	case d.InIndex:
		return "index only"
	default:
		return "directory only"
	}
}

func (c *comparePage) cause(d control.Difference) string {
	switch d.Cause {
	case "":
		return ""
	case control.CauseHeld:
		return "removal held back"
	case control.CauseReplication:
		return "waits for replication until " + c.moment(d.NotBefore.Time)
	case control.CausePending:
		return "goes with the next pass"
	case control.CauseChanging:
		return "changes all the time"
	case control.CauseRetired:
		return "the directory is no longer in the configuration"
	default:
		return text.Printable(d.Cause)
	}
}

func (c *comparePage) flush() error {
	p := &terminal.Page{}
	p.Table(append([][]string{{"Address", "Object", "Class", "Where", "Because"}}, c.block...))
	if len(c.block) > 0 {
		p.WriteByte('\n')
	}
	c.block = nil
	_, err := io.WriteString(c.stdout, strings.TrimPrefix(p.String(), "\n"))
	return err
}

func (c *comparePage) directory(d control.ComparedDirectory) {
	name := text.Printable(d.Name)
	if d.Error != "" {
		return // the final error repeats it
	}
	result := "equal"
	if !d.Equal() {
		result = text.Count(d.Differences, "difference", "differences")
	}
	fmt.Fprintf(c.stdout, "%s: %s", name, result)
	if d.DomainController != "" {
		fmt.Fprintf(c.stdout, ", with %s of %s read from %s at USN %d in %.1f s", text.Count(d.Addresses, "address",
			"addresses"),
			text.Count(d.Objects, "object", "objects"), text.Printable(d.DomainController), d.USN, d.Seconds)
	}
	fmt.Fprintln(c.stdout)
	if d.Unlisted > 0 {
		fmt.Fprintf(c.stdout, "  %s that differ too are not listed\n", text.Count(d.Unlisted, "object", "objects"))
	}
	if d.DomainController != "" && !d.Followed {
		fmt.Fprintln(c.stdout, "  this is not the domain controller that passes read: either may lag behind the other")
	}
	if d.Unsettled != "" {
		fmt.Fprintf(c.stdout, "  %s\n", text.Printable(d.Unsettled))
	}
}

func (c *comparePage) end(bool) error {
	c.progress.Clear()
	return c.flush()
}

func (c *comparePage) interrupted() { c.progress.Clear() }

// beginDifferences begins a document with differences; the comparison with a table has the same.
const beginDifferences = `{"differences": `

// compareJSON prints one document, each difference as it arrives.
type compareJSON struct {
	rows        text.JSONRows
	directories []control.ComparedDirectory
}

func newCompareJSON(w io.Writer) *compareJSON {
	return &compareJSON{rows: text.JSONRows{W: w, Before: beginDifferences}, directories: []control.ComparedDirectory{}}
}

func (c *compareJSON) add(e control.CompareEvent) error {
	switch {
	case e.Directory != nil:
		c.directories = append(c.directories, *e.Directory)
	case e.Difference != nil:
		return c.rows.Add(e.Difference)
	}
	return nil
}

func (*compareJSON) interrupted() {} // an unfinished document is not valid JSON

func (c *compareJSON) end(equal bool) error {
	if err := c.rows.End(); err != nil {
		return err
	}
	encoded, err := text.EncodeJSON(c.directories, "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.rows.W, ", \"directories\": %s, \"equal\": %t}\n", strings.TrimSuffix(encoded, "\n"), equal)
	return err
}
