package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"rcpt-milter/address"
)

// Table is a list of addresses that may change at any time. Its method is called
// concurrently.
type Table interface {
	// Find returns the file and line of the entry that matches an address. The entry may
	// match its whole domain. Line 0 means that there is none.
	Find(address.Address) (file string, line int, whole bool)
}

// lists are those of row 5. They are immutable.
type lists struct {
	accept   map[address.Address]bool
	refuse   map[address.Address]bool
	files    Table           // nil: none
	patterns []pattern       // in the order of the configuration
	domains  map[string]bool // canonical; of the entries @domain in accept
}

// pattern matches whole addresses in canonical form.
type pattern struct {
	source string
	*regexp.Regexp
}

// newLists parses the lists of the configuration.
func newLists(cfg Config) (l lists, err error) {
	l.files = cfg.AcceptFiles
	l.accept, l.domains = map[address.Address]bool{}, map[string]bool{}
	for _, text := range cfg.Accept {
		if domain, whole := strings.CutPrefix(text, "@"); whole {
			if domain, err = address.ParseDomain(domain); err != nil {
				return l, fmt.Errorf("accept: %q: %w", text, err)
			}
			l.domains[domain] = true
		} else if err = addAddress(l.accept, text); err != nil {
			return l, fmt.Errorf("accept: %w", err)
		}
	}
	l.refuse = map[address.Address]bool{}
	for _, text := range cfg.Refuse {
		if err = addAddress(l.refuse, text); err != nil {
			return l, fmt.Errorf("refuse: %w", err)
		}
	}
	for _, text := range cfg.AcceptPatterns {
		p, err := newPattern(text)
		if err != nil {
			return l, fmt.Errorf("accept patterns: %w", err)
		}
		l.patterns = append(l.patterns, p)
	}
	return l, nil
}

func addAddress(to map[address.Address]bool, text string) error {
	a, err := address.Parse(text)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	to[a] = true
	return nil
}

// newPattern compiles RE2 that has to match a whole address. Case is ignored: addresses
// are folded, so a capital letter would match none. The expression is parsed on its own
// before anchors are added, so "a)|(b" is an error and an open \Q ends where it does.
func newPattern(text string) (pattern, error) {
	if text == "" {
		return pattern{}, errors.New("an empty pattern")
	}
	parsed, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return pattern{}, err
	}
	compiled, err := regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
	return pattern{text, compiled}, err
}

// find searches the lists in the order of row 5. It returns VerdictAllowlisted or
// VerdictDenylisted with the reason, or nothing. Entries that name an address come first,
// for the whole address before the one without extension. So an entry in refuse holds for
// every extension that accept does not name. It does not hold for a tag: the tagged address is
// another one, which is then not known by its base address.
func (l *lists) find(r *recipient) (Verdict, string) {
	for n, form := range r.counted() {
		r.match = form
		if l.accept[form] {
			return VerdictAllowlisted, "in accept"
		}
		if !l.refuse[form] {
			continue
		}
		if n < r.plain {
			return VerdictDenylisted, "in refuse"
		}
		r.barred = true
		break
	}
	if l.inFiles(r) {
		return VerdictAllowlisted, filedReason
	}
	for _, r.match = range r.counted() {
		for i := range l.patterns {
			if l.patterns[i].MatchString(r.match.String()) {
				r.entry, r.shared = l.patterns[i].source, true
				return VerdictAllowlisted, "matches accept_patterns"
			}
		}
	}
	r.match = address.Address{}
	if l.domains[r.domain] {
		r.entry, r.shared = "@"+r.domain, true
		return VerdictAllowlisted, "the domain is in accept"
	}
	return "", ""
}

// filedReason is the reason of row 5 for an entry of a file.
const filedReason = "in accept_files"

// inFiles reports whether a file has an entry for a recipient, which is then its match.
func (l *lists) inFiles(r *recipient) bool {
	if l.files == nil {
		return false
	}
	for _, form := range r.counted() {
		if file, line, whole := l.files.Find(form); line != 0 {
			r.match, r.entry, r.shared = form, place(file, line), whole
			return true
		}
	}
	return false
}
