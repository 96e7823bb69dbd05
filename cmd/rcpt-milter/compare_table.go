package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// Causes of an address that a table has and the index has not.
const (
	causeUnknown  = "unknown"  // nobody has it, as far back as the journal reaches
	causeRemoved  = "removed"  // its last owner went
	causeListed   = "listed"   // the configuration accepts it, or another file does
	causeAlways   = "always"   // its local part is always accepted
	causeNotOurs  = "not-ours" // its domain is not judged
	causeDomain   = "domain"   // the table accepts a whole domain
	causeAlias    = "alias"    // the table maps a whole domain to another one, and the configuration does not
	causeCovered  = "covered"  // not in the table, but its whole domain is
	causeMissing  = "missing"  // not in the table
	causeInternal = "error"    // cannot be told
)

// tableDifference is one address about which a table and the index do not agree.
type tableDifference struct {
	Address string       `json:"address"`
	InTable bool         `json:"in_table"`
	InIndex bool         `json:"in_index"`
	Line    int          `json:"line"`    // of the table; 0: it is not in there
	Cause   string       `json:"cause"`   // one of the constants above
	Removed control.Time `json:"removed"` // of causeRemoved
	Entry   string       `json:"entry"`   // of causeListed: what accepts it; of causeAlias: the targets
}

// matters reports whether somebody is treated differently with the table and without it.
func (d tableDifference) matters() bool {
	return d.Cause != causeAlways && d.Cause != causeNotOurs && d.Cause != causeCovered
}

// tableCompared is what came out.
type tableCompared struct {
	File        string   `json:"file"`
	Entries     int      `json:"entries"`      // of the table
	Recipients  int      `json:"recipients"`   // of the index, in domains that are judged
	Common      int      `json:"common"`       // in both
	TableOnly   int      `json:"table_only"`   // that matter
	IndexOnly   int      `json:"index_only"`   // that matter
	Unjudged    int      `json:"unjudged"`     // entries of domains that are not judged
	Unread      int      `json:"unread"`       // lines of the table that do not count
	UnreadLines []string `json:"unread_lines"` // the first of them
	Equal       bool     `json:"equal"`
}

// tableComparison compares a table with the index. Both come in the order of their text,
// so that they are read side by side.
type tableComparison struct {
	ctx   context.Context
	from  reader
	table *tables.Table
	show  func(tableDifference) error
	done  tableCompared

	next func() (string, int, bool)
	key  string // of the table, not compared yet; empty: there is none
	line int
}

// compareTable reads a table and shows where it differs from the index.
func (a *app) compareTable(ctx context.Context, file string, asJSON bool) error {
	table, err := tables.ReadFile(file)
	if err != nil {
		return &exit{exitTemporary, err}
	}
	var done tableCompared
	err = a.ask(ctx, func(from reader) error {
		if done.Recipients > 0 {
			return errCutOff
		}
		done, err = a.compareWith(ctx, from, file, table, asJSON)
		return err
	})
	var chosen *exit
	switch {
	case errors.Is(err, control.ErrNotReachable) || errors.As(err, &chosen):
		return err
	case err != nil:
		return &exit{exitTemporary, err}
	case !done.Equal:
		return &exit{status: exitFailure}
	}
	return nil
}

func (a *app) compareWith(ctx context.Context, from reader, file string, table *tables.Table, asJSON bool) (tableCompared, error) {
	page, rows := &tablePage{app: a}, &jsonRows{w: a.stdout}
	c := tableComparison{ctx: ctx, from: from, table: table, show: page.add}
	if asJSON {
		c.show = func(d tableDifference) error {
			if rows.rows == 0 {
				io.WriteString(a.stdout, beginTableJSON)
			}
			return rows.add(d)
		}
	}
	c.done.File, c.done.Entries = file, table.Len()
	first, all := table.Problems()
	c.done.Unread, c.done.UnreadLines = all, []string{}
	for _, p := range first {
		c.done.UnreadLines = append(c.done.UnreadLines, p.String())
	}
	if err := c.run(); err != nil {
		return c.done, err
	}
	c.done.Equal = c.done.TableOnly+c.done.IndexOnly == 0
	if asJSON {
		return c.done, endTableJSON(rows, c.done)
	}
	return c.done, page.end(c.done)
}

const beginTableJSON = `{"differences": `

func endTableJSON(rows *jsonRows, done tableCompared) error {
	if rows.rows == 0 {
		io.WriteString(rows.w, beginTableJSON)
	}
	if err := rows.end(); err != nil {
		return err
	}
	text, err := encodeJSON(done, "  ")
	if err == nil {
		_, err = fmt.Fprintf(rows.w, ", \"table\": %s}\n", strings.TrimSuffix(text, "\n"))
	}
	return err
}

func (c *tableComparison) run() error {
	next, stop := iter.Pull2(c.table.All())
	defer stop()
	c.next = next
	c.advance()
	err := c.from.Export(c.ctx, control.ExportQuery{}, func(e control.ExportEvent) error {
		for _, r := range e.Recipients {
			if r.Source != control.SourceIndex {
				continue // a list is no reason to be in the index
			}
			if err := c.recipient(r.Address); err != nil {
				return err
			}
		}
		return nil
	})
	for err == nil && c.key != "" {
		err = c.tableOnly()
	}
	for domain, targets := range c.table.AllAliases() {
		if err == nil {
			err = c.alias(domain, targets)
		}
	}
	return err
}

// compareProbe is a local part that nobody has.
const compareProbe = "rcpt-milter-compare-probe"

// alias finds out whether the daemon knows a domain alias of the table, by the way in which
// it judges an unknown recipient.
func (c *tableComparison) alias(domain string, targets []string) error {
	l, err := c.from.Lookup(c.ctx, control.LookupQuery{Address: compareProbe + "@" + domain})
	if err != nil {
		return err
	}
	_, line := c.table.Aliases(domain)
	d := tableDifference{Address: "@" + domain, InTable: true, Line: line,
		Cause: causeAlias, Entry: "@" + strings.Join(targets, ", @")}
	switch verdict := policy.Verdict(l.Verdict); {
	case verdict == policy.VerdictNotOurs:
		c.done.Unjudged++
		return nil
	case l.AliasedBy != "":
		c.done.Common++
		return nil
	case verdict == policy.VerdictAllowlisted:
		d.Cause, d.Entry = causeListed, l.Entry
	}
	c.done.TableOnly++
	return c.shown(d)
}

func (c *tableComparison) advance() {
	c.key, c.line, _ = c.next()
}

// recipient compares one of the index with what the table has up to it.
func (c *tableComparison) recipient(address string) error {
	c.done.Recipients++
	for c.key != "" && c.key < address {
		if err := c.tableOnly(); err != nil {
			return err
		}
	}
	if c.key == address {
		c.done.Common++
		c.advance()
		return nil
	}
	d := tableDifference{Address: address, InIndex: true, Cause: causeMissing}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	if _, alias := c.table.Aliases(domain); alias != 0 || c.table.Has("@"+domain) {
		d.Cause = causeCovered
	} else {
		c.done.IndexOnly++
	}
	return c.shown(d)
}

// tableOnly finds out about an entry that the index does not have.
func (c *tableComparison) tableOnly() error {
	d := tableDifference{Address: c.key, InTable: true, Line: c.line}
	asked := c.key
	if strings.HasPrefix(asked, "@") {
		asked, d.Cause = compareProbe+asked, causeDomain
	}
	l, err := c.from.Lookup(c.ctx, control.LookupQuery{Address: asked})
	if err != nil {
		return err
	}
	switch verdict := policy.Verdict(l.Verdict); {
	case l.JudgedAs != "" && len(l.Owners) > 0 && d.Cause != causeDomain: // in the index by the name of its alias
		c.done.Common++
		c.advance()
		return nil
	case verdict == policy.VerdictNotOurs:
		d.Cause = causeNotOurs
		c.done.Unjudged++
	case d.Cause == causeDomain:
	case verdict == policy.VerdictAlways:
		d.Cause = causeAlways
	case verdict == policy.VerdictError:
		d.Cause = causeInternal
	case verdict == policy.VerdictAllowlisted && !strings.HasPrefix(l.Entry, c.done.File+":"):
		d.Cause, d.Entry = causeListed, l.Entry
	case !l.Removed.IsZero():
		d.Cause, d.Removed = causeRemoved, l.Removed
	default:
		d.Cause = causeUnknown
	}
	if d.matters() {
		c.done.TableOnly++
	}
	c.advance()
	return c.shown(d)
}

func (c *tableComparison) shown(d tableDifference) error {
	if d.Cause == causeCovered || d.Cause == causeNotOurs {
		return nil
	}
	return c.show(d)
}

// tablePage is for people.
type tablePage struct {
	*app
	block [][]string
}

func (t *tablePage) add(d tableDifference) error {
	where, line := "table only", fmt.Sprint(d.Line)
	if d.InIndex {
		where, line = "index only", ""
	}
	t.block = append(t.block, []string{text.Printable(d.Address), where, line, t.because(d)})
	if len(t.block) == blockRows {
		return t.flush()
	}
	return nil
}

func (t *tablePage) because(d tableDifference) string {
	switch d.Cause {
	case causeUnknown:
		return "nobody in the directories has it"
	case causeRemoved:
		return "left the directories " + t.at(d.Removed)
	case causeListed:
		if d.Entry == "" {
			return "accepted by the configuration"
		}
		return "accepted by " + text.Printable(d.Entry)
	case causeAlways:
		return "always accepted"
	case causeDomain:
		return "accepts everybody in the domain"
	case causeAlias:
		return "maps the domain to " + text.Printable(d.Entry) + ": domain_aliases"
	case causeMissing:
		return "refused where the table is in force"
	default:
		return "cannot be told"
	}
}

func (t *tablePage) flush() error {
	p := &terminal.Page{}
	p.Table(append([][]string{{"Address", "Where", "Line", "Because"}}, t.block...))
	t.block = nil
	_, err := io.WriteString(t.stdout, strings.TrimPrefix(p.String(), "\n"))
	return err
}

func (t *tablePage) end(done tableCompared) error {
	if len(t.block) > 0 {
		if err := t.flush(); err != nil {
			return err
		}
		fmt.Fprintln(t.stdout)
	}
	p := &terminal.Page{}
	fmt.Fprintf(p, "%s: %s, %s in both, %s in the table only, %s in the index only\n", text.Printable(done.File), text.Count(done.Entries, "entry", "entries"),
		text.Number(int64(done.Common)), text.Number(int64(done.TableOnly)), text.Number(int64(done.IndexOnly)))
	if done.Unjudged > 0 {
		fmt.Fprintf(p, "%s of domains that are not judged here\n", text.Count(done.Unjudged, "entry is", "entries are"))
	}
	for _, line := range done.UnreadLines {
		fmt.Fprintf(p, "does not count: %s\n", text.Printable(line))
	}
	if more := done.Unread - len(done.UnreadLines); more > 0 {
		fmt.Fprintf(p, "%s more that do not count\n", text.Count(more, "line", "lines"))
	}
	_, err := io.WriteString(t.stdout, p.String())
	return err
}
