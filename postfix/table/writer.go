package table

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

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

// Add writes an entry: a canonical mailbox, or @ and a canonical domain, and then its other
// spellings, a line each. A mailbox such as *@x.example gets one with quotes: Read takes it for a
// wildcard otherwise, and Postfix looks for it without quotes.
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
	others := spellings(key)
	if at := strings.LastIndexByte(key, '@'); looksLikeWildcard(key, at) {
		others = append(others, `"`+key[:at]+`"`+key[at:])
	}
	for _, spelling := range others {
		if err := w.line(spelling); err != nil {
			return err
		}
	}
	return nil
}

// looksLikeWildcard reports whether Read takes a mailbox with a local part up to at for a wildcard.
func looksLikeWildcard(key string, at int) bool {
	return at > 0 && at <= len("^(.*)") && address.CheckEntry(key) != nil &&
		address.CheckEntry(`"`+key[:at]+`"`+key[at:]) == nil
}

// holds reports whether a table can hold a key. A line that begins with # is a comment. No
// recipient has a control character or an invisible one; in a table it would hide other text.
func holds(key string) bool {
	_, invisible := address.FirstInvisible(key)
	return key != "" && key[0] != '#' && !invisible && !strings.ContainsFunc(key, unicode.IsControl)
}

// spellings returns the other forms in which a client may write a key. Postfix folds the case of keys
// and of recipients alike (casefold.c), but compares them as they are composed (Unicode NFC or NFD), and
// domains with A-labels or U-labels as clients write them (SMTPUTF8_README, "Limitations"). What mixes
// both compositions in one local part or domain has no spelling.
func spellings(key string) (others []string) {
	if isASCII(key) && !strings.Contains(key, "xn--") {
		return nil
	}
	at := strings.LastIndexByte(key, '@')
	domains := []string{key[at+1:]}
	if unicode, err := idna.Punycode.ToUnicode(key[at+1:]); err == nil {
		domains = append(domains, unicode, norm.NFD.String(unicode))
	}
	folder := cases.Fold()
	folded := []string{folder.String(key)} // postmap warns of two equal keys
	for _, domain := range domains {
		for _, local := range []string{key[:at], norm.NFD.String(key[:at])} {
			text := local + "@" + domain
			if slices.Contains(folded, folder.String(text)) || !holds(text) {
				continue
			}
			if same, err := CanonicalKey(text); err == nil && same == key {
				others, folded = append(others, text), append(folded, folder.String(text))
			}
		}
	}
	return others
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}

// line writes one entry. A canonical mailbox stands in a table as it is: Postfix looks
// for the quoted form of RFC 5321 first, which it is where it has quotes, and then for
// the one without, which it is otherwise.
func (w *Writer) line(key string) error {
	w.out.WriteString(key)
	_, err := w.out.WriteString("\t" + writtenValue + "\n")
	return err
}

// writtenValue is the value of every key. Postfix does not look at it.
const writtenValue = "OK"

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
