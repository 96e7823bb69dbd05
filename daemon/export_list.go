package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
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
	Force      bool   // write a list without a proven recipient
	Kept       string // why Keep will add the entries of the last list; empty means that it will not
}

// ErrEmptyList explains why an empty list is not written.
var ErrEmptyList = errors.New("no recipient in the domains of the configuration is in the index, or on a host " +
	"without directories in accept_files; an empty list would reject every recipient")

// RecipientList writes a list in one of the formats. Unless forced, it writes nothing before the
// first proven recipient: one that the index has, or an accept file on a host without directories.
// A list without one may be that of an index that lost everything.
type RecipientList struct {
	Head    control.ExportHead // set it before Add
	options ListOptions
	out     *bufio.Writer // there may be millions of rows
	table   *tables.Writer
	rows    *text.JSONRows
	begun   bool
	entries int
	proven  bool                // the list has a proven recipient, or is forced
	waiting []control.Recipient // came before the first proven one
	keys    *keySet             // of the list, for Keep; nil without Kept
}

// NewRecipientList returns a list that is written to w.
func NewRecipientList(o ListOptions, w io.Writer) *RecipientList {
	out := bufio.NewWriterSize(w, 64<<10)
	l := &RecipientList{options: o, out: out, table: tables.NewWriter(w), rows: &text.JSONRows{W: out}, proven: o.Force}
	if o.Kept != "" {
		l.keys = newKeySet()
	}
	return l
}

// Add adds recipients.
func (l *RecipientList) Add(all []control.Recipient) error {
	for _, r := range all {
		if !l.wanted(r) {
			continue
		}
		if l.proven = l.proven || l.proves(r); !l.proven {
			l.waiting = append(l.waiting, r)
			continue
		}
		for _, w := range append(l.waiting, r) {
			if err := l.add(w); err != nil {
				return err
			}
		}
		l.waiting = nil
	}
	return nil
}

// proves reports whether a recipient shows that the source of the list is not empty.
func (l *RecipientList) proves(r control.Recipient) bool {
	withoutDirectory := !slices.ContainsFunc(l.Head.Directories, func(d control.ExportDirectory) bool {
		return d.State != control.Retired
	})
	switch r.Source {
	case control.SourceIndex:
		return true
	case control.SourceAlias:
		return withoutDirectory || l.Head.Addresses > 0
	case control.SourceFile:
		return withoutDirectory
	}
	return false
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
	if l.keys != nil {
		l.keys.add(r.Address)
	}
	return l.write(r)
}

func (l *RecipientList) write(r control.Recipient) error {
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
		l.table.Comment(TableHead(l.Head, l.options.File) + keptComment(l.options.Kept))
	}
}

// Omitted returns the number of recipients that a table cannot hold, so Postfix rejects them.
func (l *RecipientList) Omitted() int { return l.table.Omitted() }

// End writes the end of the list, and returns the number of its entries. It returns ErrEmptyList if
// no recipient is proven, unless forced.
func (l *RecipientList) End() (int, error) {
	if !l.proven {
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
