package table

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"rcpt-milter/address"
	"rcpt-milter/internal/text"
)

// Writer writes a table in source form, for postmap(1) and for Read. Lines are kept until
// Flush.
type Writer struct {
	out     *bufio.Writer
	entries int
	left    []string // keys that no table can hold; the first of them
	unfit   int      // how many there are
}

// keptUnfit limits the omitted keys that Flush lists.
const keptUnfit = 20

// NewWriter writes to w.
func NewWriter(w io.Writer) *Writer { return &Writer{out: bufio.NewWriterSize(w, 64<<10)} }

// Comment writes lines of comment.
func (w *Writer) Comment(lines string) error {
	for line := range strings.SplitSeq(lines, "\n") {
		if _, err := w.out.WriteString(strings.TrimRight("# "+line, " ") + "\n"); err != nil {
			return err
		}
	}
	return nil
}

// Add writes an entry: a canonical mailbox, or @ and a canonical domain. A domain with
// A-labels gets a second line with its U-labels: Postfix compares domains as clients
// write them (SMTPUTF8_README, "Limitations").
func (w *Writer) Add(key string) error {
	if !holds(key) {
		if w.unfit++; len(w.left) < keptUnfit {
			w.left = append(w.left, key)
		}
		return nil
	}
	w.entries++
	if err := w.line(key); err != nil {
		return err
	}
	if !strings.Contains(key, "xn--") {
		return nil
	}
	at := strings.LastIndexByte(key, '@')
	unicode, err := idna.Punycode.ToUnicode(key[at+1:])
	if err != nil || unicode == key[at+1:] {
		return nil
	}
	if again, err := address.ParseDomain(unicode); err != nil || again != key[at+1:] {
		return nil
	}
	return w.line(key[:at+1] + unicode)
}

// holds reports whether a table can hold a key. A line that begins with # is a comment. No
// recipient has a control character or an invisible one; in a table it would hide other text.
func holds(key string) bool {
	_, invisible := address.FirstInvisible(key)
	return key != "" && key[0] != '#' && !invisible && !strings.ContainsFunc(key, unicode.IsControl)
}

// line writes one entry. A canonical mailbox stands in a table as it is: Postfix looks
// for the quoted form of RFC 5321 first, which it is where it has quotes, and then for
// the one without, which it is otherwise.
func (w *Writer) line(key string) error {
	w.out.WriteString(key)
	_, err := w.out.WriteString("\tOK\n")
	return err
}

// Entries returns the number of entries added.
func (w *Writer) Entries() int { return w.entries }

// Omitted returns the number of keys that no table can hold.
func (w *Writer) Omitted() int { return w.unfit }

// Flush writes what is left, and says in a comment what could not be written.
func (w *Writer) Flush() error {
	if w.unfit > 0 {
		w.Comment(fmt.Sprintf("omitted because a table cannot hold them (a first #, or an invisible character): %s",
			w.omitted()))
	}
	return w.out.Flush()
}

// omitted lists the keys that no table can hold, as far as they were kept.
func (w *Writer) omitted() string {
	list := text.Printable(strings.Join(w.left, ", "))
	if more := w.unfit - len(w.left); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}
