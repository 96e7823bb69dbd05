// Package table reads and writes Postfix tables in the source format of postmap(1).
//
// # Tables
//
// A [Table] is the set of mailboxes (user@domain), whole domains (@domain) and domain
// aliases (@domain @target) of a file, in the canonical form of package address. It is read
// like postmap reads it, so one file can serve both, with two differences: a key without a
// value counts, because plain lists of addresses are common, and an invalid line does not
// affect other lines. Each invalid line is a [Problem].
//
// A table takes the size of its text and 12 bytes an entry. It does not change.
//
// # Watched files
//
// [Files] keeps the tables of several files up to date. If a file vanishes, becomes empty or
// cannot be read, its last good copy stays in effect. With [Copies], the copy is on disk as well, and the
// next process judges the file by it.
//
// # Concurrency
//
// All functions and methods may be called concurrently. Look-ups take no lock.
package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"

	"rcpt-milter/address"
)

// Bounds on one table.
const (
	maxTable     = 1 << 30 // bytes of a file, about 25 million addresses
	keptProblems = 20      // problems that are kept with their text
)

// ErrNotTable is the error of a file that is not a table. The wrapping error has the reason.
var ErrNotTable = errors.New("not a table in Postfix's source format")

// Table is the set of mailboxes and domains that one file names, and of the domains that it
// maps to others. It never changes. Its zero value is empty.
type Table struct {
	text     []byte           // of all keys, in the order of the file
	entries  []entry          // in the order of their keys, each key once
	domains  int              // number of keys of the form @domain
	aliases  map[string]alias // by canonical domain
	byDomain map[string]tally // by canonical domain
	problems []Problem
	unread   int // number of invalid lines

	actions notes // lines that seem to reject
	literal notes // lines with a key that was probably not intended as it reads
}

// notes are about lines that count, although they may be mistakes.
type notes struct {
	first []Problem
	all   int
}

func (n *notes) add(line int, text string) {
	if n.all++; len(n.first) < keptProblems {
		n.first = append(n.first, Problem{line, text})
	}
}

// entry is the position of one key in text, and its line in the file.
type entry struct {
	start  uint32
	length uint32
	line   uint32
}

// Problem is an invalid line.
type Problem struct {
	Line int    // first line of the logical line, from 1
	Text string // the error
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Text) }

// ReadFile reads a table. The error names the file.
func ReadFile(path string) (*Table, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readTable(f, path)
}

// Open opens a file for reading. Unlike os.Open it does not wait for the writer of a FIFO.
func Open(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) }

// readTable reads a table from an open file.
func readTable(f *os.File, path string) (*Table, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: not a regular file", path, ErrNotTable)
	}
	if info.Size() > maxTable {
		return nil, fmt.Errorf("%s: %w: larger than %d MiB", path, ErrNotTable, maxTable>>20)
	}
	t, err := Read(io.LimitReader(f, maxTable))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Read reads a table. An invalid line is a Problem of the table. The error is that of r, or
// ErrNotTable.
func Read(r io.Reader) (*Table, error) {
	l := newLines(r)
	if head, _ := l.in.Peek(2); bytes.Equal(head, []byte("\xff\xfe")) || bytes.Equal(head, []byte("\xfe\xff")) {
		return nil, fmt.Errorf("%w: it is written in UTF-16; save it as UTF-8", ErrNotTable)
	}
	t := &Table{}
	for l.next() {
		if err := t.read(l); err != nil {
			t.problem(l.first, err)
		}
	}
	if l.err != io.EOF {
		return nil, l.err
	}
	t.sort()
	return t, nil
}

// read adds one logical line.
func (t *Table) read(l *lines) error {
	text, err := keyOf(l.text)
	if err != nil {
		return err
	}
	key, err := canonical(text)
	if err != nil {
		return err
	}
	if key[0] == '@' {
		targets, err := aliasTargets(key, l.text[len(text):], len(l.text) == keptOfLine)
		if err != nil {
			return err
		}
		if len(targets) > 0 {
			t.addAlias(key[1:], alias{targets, l.first})
			return nil
		}
	}
	if err := address.CheckLiteral(text); err != nil {
		t.literal.add(l.first, fmt.Sprintf("%s is taken literally: %v", shown([]byte(text)), err))
	}
	t.noteAction(l.first, text, l.text[len(text):])
	t.add(key, l.first)
	return nil
}

func (t *Table) problem(line int, err error) {
	if t.unread++; len(t.problems) < keptProblems {
		t.problems = append(t.problems, Problem{line, err.Error()})
	}
}

func (t *Table) add(key string, line int) {
	t.entries = append(t.entries, entry{uint32(len(t.text)), uint32(len(key)), uint32(line)})
	t.text = append(t.text, key...)
}

// sort sorts the entries, removes later ones with the same key, and decides about domains that have
// an alias, too.
func (t *Table) sort() {
	t.order()
	t.settleAliases()
	t.count()
}

// order sorts the entries and removes later ones with the same key.
func (t *Table) order() {
	slices.SortFunc(t.entries, func(a, b entry) int {
		if c := bytes.Compare(t.key(a), t.key(b)); c != 0 {
			return c
		}
		return int(a.line) - int(b.line)
	})
	t.entries = slices.CompactFunc(t.entries, func(a, b entry) bool { return bytes.Equal(t.key(a), t.key(b)) })
}

// count counts the entries of each domain, and those of whole domains.
func (t *Table) count() {
	t.countDomains()
	t.entries = slices.Clip(t.entries)
	t.domains = sort.Search(len(t.entries), func(i int) bool { return t.key(t.entries[i])[0] > '@' }) -
		sort.Search(len(t.entries), func(i int) bool { return t.key(t.entries[i])[0] >= '@' })
}

func (t *Table) key(e entry) []byte { return t.text[e.start : e.start+e.length] }

// keyOf returns the key of a logical line: the text before the first white space outside
// quotes.
func keyOf(line []byte) (string, error) {
	if bytes.IndexByte([]byte(space), line[0]) >= 0 {
		return "", fmt.Errorf("%s begins with white space, which would continue a line before it, and there is none",
			shown(line))
	}
	end, quoted := 0, false
	for ; end < len(line); end++ {
		c := line[end]
		if c == '\\' {
			end++
		} else if c == '"' {
			quoted = !quoted
		} else if !quoted && bytes.IndexByte([]byte(space), c) >= 0 {
			break
		}
	}
	key := line[:min(end, len(line))]
	switch {
	case quoted:
		return "", fmt.Errorf("%s has a quote that is not closed", shown(line))
	case len(key) == keptOfLine:
		return "", fmt.Errorf("%s is too long for an address", shown(line))
	case !utf8.Valid(key):
		return "", fmt.Errorf("%s is not valid UTF-8; save the file as UTF-8", shown(key))
	}
	return string(key), nil
}

// canonical returns the form in which a key is compared: an address, or @ and a domain.
func canonical(key string) (string, error) {
	if err := address.CheckEntry(key); err != nil {
		return "", fmt.Errorf("%s can never match: %w", shown([]byte(key)), err)
	}
	if domain, whole := strings.CutPrefix(key, "@"); whole {
		domain, err := address.ParseDomain(domain)
		if err != nil {
			return "", fmt.Errorf("%s is not @domain: %w", shown([]byte(key)), err)
		}
		return "@" + domain, nil
	}
	a, err := address.Parse(key)
	switch {
	case err == nil:
		return a.String(), nil
	case strings.HasSuffix(key, ":"):
		return "", fmt.Errorf("%s is a line of an alias file, which holds local users; expected user@domain or @domain",
			shown([]byte(key)))
	case !strings.Contains(key, "@"):
		return "", fmt.Errorf("%s is neither user@domain nor @domain", shown([]byte(key)))
	}
	return "", fmt.Errorf("%s: %w", shown([]byte(key)), err)
}

// shown returns the beginning of a line, quoted.
func shown(line []byte) string {
	const longest = 80
	line = bytes.TrimRight(line, space)
	if len(line) > longest {
		return fmt.Sprintf("%q...", line[:longest])
	}
	return fmt.Sprintf("%q", line)
}

// Len returns the number of mailboxes and domains, including domain aliases.
func (t *Table) Len() int { return len(t.entries) + len(t.aliases) }

// Domains returns the number of entries of the form @domain.
func (t *Table) Domains() int { return t.domains }

// Problems returns the first invalid lines, and the number of all.
func (t *Table) Problems() (first []Problem, all int) { return t.problems, t.unread }

// Find looks for a mailbox, then for its domain. It returns the line in the file, or 0.
func (t *Table) Find(a address.Address) (line int) {
	if a.IsZero() {
		return 0
	}
	if line = t.line(a.String()); line == 0 {
		line = t.line(a.String()[len(a.Local()):]) // with its @
	}
	return line
}

// Has reports whether the table names exactly this key, a canonical mailbox or @domain.
func (t *Table) Has(key string) bool { return t.line(key) != 0 }

// Line returns the line of exactly this key, a canonical mailbox or @domain, or 0.
func (t *Table) Line(key string) int { return t.line(key) }

func (t *Table) line(key string) int {
	i := sort.Search(len(t.entries), func(i int) bool { return string(t.key(t.entries[i])) >= key })
	if i == len(t.entries) || string(t.key(t.entries[i])) != key {
		return 0
	}
	return int(t.entries[i].line)
}

// All visits the keys in their order, with the line of each. Domain aliases are not among
// them.
func (t *Table) All() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for _, e := range t.entries {
			if !yield(string(t.key(e)), int(e.line)) {
				return
			}
		}
	}
}
