package daemon

import (
	"context"
	"iter"
	"strings"

	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// Causes of a difference between a table and the index.
const (
	TableUnknown = "unknown"  // in neither the index nor the journal
	TableRemoved = "removed"  // removed from the index
	TableListed  = "listed"   // accepted by the configuration or by another file
	TableAlways  = "always"   // in always_accept
	TableNotOurs = "not-ours" // in a domain that is not judged
	TableDomain  = "domain"   // the entry accepts a whole domain
	TableAlias   = "alias"    // the entry maps a whole domain to another one, but the configuration does not
	TableCovered = "covered"  // the table accepts the whole domain instead
	TableMissing = "missing"  // not in the table
	TableError   = "error"    // the daemon reports an internal error
)

// TableDifference is an address that only the table or only the index has.
type TableDifference struct {
	Address string       `json:"address"`
	InTable bool         `json:"in_table"`
	InIndex bool         `json:"in_index"`
	Line    int          `json:"line"`    // line in the table; 0 if it is not in the table
	Cause   string       `json:"cause"`   // one of the constants above
	Removed control.Time `json:"removed"` // set for TableRemoved
	Entry   string       `json:"entry"`   // for TableListed, the entry that accepts it; for TableAlias, the targets
}

// Because returns the cause in words. The function at formats a time. The result is not escaped.
func (d TableDifference) Because(at func(control.Time) string) string {
	switch d.Cause {
	case TableUnknown:
		return "not in any directory"
	case TableRemoved:
		return "left the directories " + at(d.Removed)
	case TableListed:
		if d.Entry == "" {
			return "accepted by the configuration"
		}
		return "accepted by " + d.Entry
	case TableAlways:
		return "always accepted"
	case TableDomain:
		return "accepts the whole domain"
	case TableAlias:
		return "maps the domain to " + d.Entry + ": domain_aliases"
	case TableMissing:
		return "rejected by the table"
	default:
		return "unknown, because of an internal error"
	}
}

// matters reports whether the difference affects mail for the address.
func (d TableDifference) matters() bool {
	return d.Cause != TableAlways && d.Cause != TableNotOurs && d.Cause != TableCovered
}

// ComparedTable is the result of CompareTable.
type ComparedTable struct {
	File        string   `json:"file"`
	Entries     int      `json:"entries"`      // entries in the table
	Recipients  int      `json:"recipients"`   // recipients in the index, in judged domains
	Common      int      `json:"common"`       // in both
	TableOnly   int      `json:"table_only"`   // differences that matter
	IndexOnly   int      `json:"index_only"`   // differences that matter
	Unjudged    int      `json:"unjudged"`     // entries in domains that are not judged
	Unread      int      `json:"unread"`       // number of lines that are not valid entries
	UnreadLines []string `json:"unread_lines"` // the first of these lines
	Equal       bool     `json:"equal"`
}

// tableComparison merges a table with the index. Both are sorted by text.
type tableComparison struct {
	ctx   context.Context
	from  Reader
	table *tables.Table
	show  func(TableDifference) error
	done  ComparedTable

	next func() (string, int, bool)
	key  string // current key of the table; empty at the end
	line int
}

// CompareTable compares a table that was read from a file with the index. It calls show with each difference,
// in the order of addresses.
func CompareTable(ctx context.Context, from Reader, file string, table *tables.Table,
	show func(TableDifference) error) (ComparedTable, error) {
	c := tableComparison{ctx: ctx, from: from, table: table, show: show}
	c.done.File, c.done.Entries = file, table.Len()
	first, all := table.Problems()
	c.done.Unread, c.done.UnreadLines = all, []string{}
	for _, p := range first {
		c.done.UnreadLines = append(c.done.UnreadLines, p.String())
	}
	err := c.run()
	c.done.Equal = err == nil && c.done.TableOnly+c.done.IndexOnly == 0
	return c.done, err
}

func (c *tableComparison) run() error {
	next, stop := iter.Pull2(c.table.All())
	defer stop()
	c.next = next
	c.advance()
	err := c.from.Export(c.ctx, control.ExportQuery{}, func(e control.ExportEvent) error {
		for _, r := range e.Recipients {
			if r.Source != control.SourceIndex {
				continue // entries of lists need not be in the index
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

// compareProbe is a local part that no recipient has.
const compareProbe = "rcpt-milter-compare-probe"

// alias compares a domain alias. The answer to a lookup of an unknown recipient shows whether the daemon has
// the alias.
func (c *tableComparison) alias(domain string, targets []string) error {
	l, err := c.from.Lookup(c.ctx, control.LookupQuery{Address: compareProbe + "@" + domain})
	if err != nil {
		return err
	}
	_, line := c.table.Aliases(domain)
	d := TableDifference{Address: "@" + domain, InTable: true, Line: line,
		Cause: TableAlias, Entry: "@" + strings.Join(targets, ", @")}
	switch {
	case l.Verdict == control.VerdictNotOurs:
		c.done.Unjudged++
		return nil
	case l.AliasedBy != "":
		c.done.Common++
		return nil
	case l.Verdict == control.VerdictAllowlisted:
		d.Cause, d.Entry = TableListed, l.Entry
	}
	c.done.TableOnly++
	return c.shown(d)
}

func (c *tableComparison) advance() {
	c.key, c.line, _ = c.next()
}

// recipient compares a recipient in the index with all keys of the table up to it.
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
	d := TableDifference{Address: address, InIndex: true, Cause: TableMissing}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	if _, alias := c.table.Aliases(domain); alias != 0 || c.table.Has("@"+domain) {
		d.Cause = TableCovered
	} else {
		c.done.IndexOnly++
	}
	return c.shown(d)
}

// tableOnly classifies a key that is not in the index.
func (c *tableComparison) tableOnly() error {
	d := TableDifference{Address: c.key, InTable: true, Line: c.line}
	asked := c.key
	if strings.HasPrefix(asked, "@") {
		asked, d.Cause = compareProbe+asked, TableDomain
	}
	l, err := c.from.Lookup(c.ctx, control.LookupQuery{Address: asked})
	if err != nil {
		return err
	}
	switch {
	case len(l.Owners) > 0 && d.Cause != TableDomain &&
		(l.JudgedAs != "" || l.Matched != "" && l.Matched != l.Canonical):
		// in the index under the target of an alias, or without its extension or tag
		c.done.Common++
		c.advance()
		return nil
	case l.Verdict == control.VerdictNotOurs:
		d.Cause = TableNotOurs
		c.done.Unjudged++
	case d.Cause == TableDomain:
	case l.Verdict == control.VerdictAlways:
		d.Cause = TableAlways
	case l.Verdict == control.VerdictError:
		d.Cause = TableError
	case l.Verdict == control.VerdictAllowlisted && !strings.HasPrefix(l.Entry, c.done.File+":"):
		d.Cause, d.Entry = TableListed, l.Entry
	case !l.Removed.IsZero():
		d.Cause, d.Removed = TableRemoved, l.Removed
	default:
		d.Cause = TableUnknown
	}
	if d.matters() {
		c.done.TableOnly++
	}
	c.advance()
	return c.shown(d)
}

func (c *tableComparison) shown(d TableDifference) error {
	if d.Cause == TableCovered || d.Cause == TableNotOurs {
		return nil
	}
	return c.show(d)
}
