package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"rcpt-milter/control"
	"rcpt-milter/internal/text"
	tables "rcpt-milter/postfix/table"
)

// ListFormats are the formats of a list of recipients.
var ListFormats = []string{"postmap", "text", "json"}

// ListOptions configure a RecipientList.
type ListOptions struct {
	Format     string // one of ListFormats
	File       string // for the comment in a table; empty means standard output
	Restricted bool   // include internal-only recipients
	Force      bool   // write a list without a recipient of the index
}

// ErrEmptyList explains why an empty list is not written.
var ErrEmptyList = errors.New("the index has no recipient in the domains of the configuration; an empty list would " +
	"reject every recipient")

// RecipientList writes a list in one of the formats. It writes nothing before the first entry.
type RecipientList struct {
	Head    control.ExportHead // set it before Add
	options ListOptions
	out     *bufio.Writer // there may be millions of rows
	table   *tables.Writer
	rows    *text.JSONRows
	begun   bool
	entries int
	indexed int // number of entries from the index
}

// NewRecipientList returns a list that is written to w.
func NewRecipientList(o ListOptions, w io.Writer) *RecipientList {
	out := bufio.NewWriterSize(w, 64<<10)
	return &RecipientList{options: o, out: out, table: tables.NewWriter(w), rows: &text.JSONRows{W: out}}
}

// Add adds recipients.
func (l *RecipientList) Add(all []control.Recipient) error {
	for _, r := range all {
		if !l.wanted(r) {
			continue
		}
		if r.Source == control.SourceIndex {
			l.indexed++
		}
		if err := l.add(r); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a recipient belongs in the list in this format.
func (l *RecipientList) wanted(r control.Recipient) bool {
	switch l.options.Format {
	case "json":
		return true
	case "text":
		mailbox := !strings.HasPrefix(r.Address, "@") && r.Source != control.SourceAlways
		return mailbox && (!r.Restricted || l.options.Restricted)
	default:
		return !r.Restricted || l.options.Restricted
	}
}

func (l *RecipientList) add(r control.Recipient) error {
	if l.indexed == 0 && !l.options.Force {
		return nil // the list may turn out to be empty; see End
	}
	l.begin()
	l.entries++
	switch l.options.Format {
	case "json":
		return l.rows.Add(r)
	case "text":
		_, err := fmt.Fprintln(l.out, text.Printable(r.Address))
		return err
	default:
		return l.table.Add(r.Address)
	}
}

func (l *RecipientList) begin() {
	if l.begun {
		return
	}
	l.begun = true
	if l.options.Format == "postmap" {
		l.table.Comment(TableHead(l.Head, l.options.File))
	}
}

// Omitted returns the number of recipients that a table cannot hold, so Postfix rejects them.
func (l *RecipientList) Omitted() int { return l.table.Omitted() }

// End writes the end of the list, and returns the number of its entries. It returns ErrEmptyList if
// no recipient is in the index, unless forced.
func (l *RecipientList) End() (int, error) {
	if l.indexed == 0 && !l.options.Force {
		return 0, ErrEmptyList
	}
	l.begin()
	switch l.options.Format {
	case "json":
		if err := l.rows.End(); err != nil {
			return l.entries, err
		}
	case "postmap":
		l.table.Comment(text.Count(l.entries, "entry", "entries") + ".")
		return l.entries, l.table.Flush()
	}
	return l.entries, l.out.Flush()
}
