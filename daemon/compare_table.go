package daemon

import (
	"context"
	"iter"
	"strings"

	"rcpt-milter/control"
	tables "rcpt-milter/postfix/table"
)

// Causes of an address that a table has and the index has not.
const (
	TableUnknown = "unknown"  // nobody has it, as far back as the journal reaches
	TableRemoved = "removed"  // its last owner went
	TableListed  = "listed"   // the configuration accepts it, or another file does
	TableAlways  = "always"   // its local part is always accepted
	TableNotOurs = "not-ours" // its domain is not judged
	TableDomain  = "domain"   // the table accepts a whole domain
	TableAlias   = "alias"    // the table maps a whole domain to another one, and the configuration does not
	TableCovered = "covered"  // not in the table, but its whole domain is
	TableMissing = "missing"  // not in the table
	TableError   = "error"    // cannot be told
)

// TableDifference is one address about which a table and the index do not agree.
type TableDifference struct {
	Address string       `json:"address"`
	InTable bool         `json:"in_table"`
	InIndex bool         `json:"in_index"`
	Line    int          `json:"line"`    // of the table; 0: it is not in there
	Cause   string       `json:"cause"`   // one of the constants above
	Removed control.Time `json:"removed"` // of TableRemoved
	Entry   string       `json:"entry"`   // of TableListed: what accepts it; of TableAlias: the targets
}

// matters reports whether somebody is treated differently with the table and without it.
func (d TableDifference) matters() bool {
	return d.Cause != TableAlways && d.Cause != TableNotOurs && d.Cause != TableCovered
}

// ComparedTable is what came out.
type ComparedTable struct {
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
	from  Reader
	table *tables.Table
	show  func(TableDifference) error
	done  ComparedTable

	next func() (string, int, bool)
	key  string // of the table, not compared yet; empty: there is none
	line int
}

// CompareTable compares a table that was read from a file with the index. It calls show with
// each difference, in the order of the addresses.
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
	d := TableDifference{Address: address, InIndex: true, Cause: TableMissing}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	if _, alias := c.table.Aliases(domain); alias != 0 || c.table.Has("@"+domain) {
		d.Cause = TableCovered
	} else {
		c.done.IndexOnly++
	}
	return c.shown(d)
}

// tableOnly finds out about an entry that the index does not have.
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
	case l.JudgedAs != "" && len(l.Owners) > 0 && d.Cause != TableDomain: // in the index by the name of its alias
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
