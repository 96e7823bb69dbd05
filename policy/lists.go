package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"rcpt-milter/address"
)

// Table is a list of addresses that may change at any time. Its method must be safe for concurrent use.
type Table interface {
	// Find returns the file and line of the entry that matches an address. whole reports that the entry matches
	// the whole domain. Line 0 means no match.
	Find(address.Address) (file string, line int, whole bool)
}

// lists are the lists of row 5. They are immutable.
type lists struct {
	accept   map[address.Address]bool
	refuse   map[address.Address]bool
	files    Table           // nil means none
	patterns []pattern       // in the order of the configuration
	domains  map[string]bool // canonical domains of the entries @domain in accept
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

// newPattern compiles an RE2 expression that must match a whole address. It ignores case, because addresses are
// folded and a capital letter would never match. It parses the expression before it adds the anchors, so
// "a)|(b" is an error and an open \Q cannot quote the anchor.
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

// find searches the lists in the order of row 5. It returns VerdictAllowlisted or VerdictDenylisted with the
// reason, or an empty verdict. Exact entries come first, for the whole address before the address without
// extension. An entry in refuse therefore matches all extensions that are not in accept. It does not match a
// tagged address, but then the base address does not make the tagged address known.
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
		r.baseRefused = true
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

// inFiles reports whether a file has an entry for a recipient. It records the entry as the match.
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
	return !r.readable() && l.inWholeDomain(r)
}

// inWholeDomain reports whether a file has the whole domain of a recipient. It asks for an address in the domain
// that no file names.
func (l *lists) inWholeDomain(r *recipient) bool {
	any, err := address.Parse("any@" + r.domain)
	if err != nil {
		return false
	}
	file, line, whole := l.files.Find(decoy(any))
	if line != 0 && whole {
		r.entry, r.shared = place(file, line), true
	}
	return line != 0 && whole
}
