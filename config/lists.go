package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"rcpt-milter/address"
)

// Exempt are clients to whom nothing is refused.
type Exempt struct {
	Networks      []netip.Prefix // by address
	Authenticated bool           // all that have logged in; default false
}

// parseAccepted reads an address, or with an @ in front a whole domain.
func parseAccepted(text string) (string, error) {
	if domain, whole := strings.CutPrefix(text, "@"); whole {
		domain, err := address.ParseDomain(domain)
		if err != nil || strings.Contains(domain, "*") {
			return "", fmt.Errorf("expected a domain behind the @, such as \"@example.com\", got %s", quoted(text))
		}
		return "@" + domain, nil
	}
	a, err := address.Parse(text)
	if err != nil {
		return "", fmt.Errorf("expected an address, or a whole domain such as \"@example.com\", got %s", quoted(text))
	}
	return a.String(), nil
}

// parseRefused reads an address.
func parseRefused(text string) (address.Address, error) {
	if strings.HasPrefix(text, "@") {
		return address.Address{}, fmt.Errorf("expected an address, got the domain %s; who is not known in it is refused already", quoted(text))
	}
	return parseAddress(text)
}

// improbable are addresses that no pattern with a purpose matches all.
var improbable = []string{"qzx7.kw-92_v@zqx.unlikely.invalid", "0@z.invalid"}

// parsePattern reads RE2 that is meant to match whole addresses, and refuses what
// matches none or all of them.
func parsePattern(text string) (string, error) {
	if text == "" {
		return "", errors.New("must not be empty")
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return "", patternError(text, err)
	}
	if !mayMatch(parsed, '@') {
		return "", fmt.Errorf("%s matches no address: a pattern is compared with the whole of it, as %s is", quoted(text), quoted(`sales-.*@example\.com`))
	}
	compiled, err := regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
	if err != nil { // too large, once it is compiled
		return "", patternError(text, err)
	}
	if !slices.ContainsFunc(improbable, func(a string) bool { return !compiled.MatchString(a) }) {
		return "", fmt.Errorf("%s matches every address, so that no recipient would be refused; a whole domain is accepted by \"@example.com\" in accept", quoted(text))
	}
	return text, nil
}

// patternError says what is wrong with an expression, and where: the parser gives no
// place, but quotes it.
func patternError(text string, err error) error {
	var wrong *syntax.Error
	if !errors.As(err, &wrong) {
		return fmt.Errorf("%s is no regular expression (RE2): %w", quoted(text), err)
	}
	place := ""
	switch strings.Count(text, wrong.Expr) {
	case 0: // it speaks of the whole
	case 1:
		if wrong.Expr != text {
			at := utf8.RuneCountInString(text[:strings.Index(text, wrong.Expr)]) + 1
			place = fmt.Sprintf(" at its character %d, %s", at, quoted(wrong.Expr))
		}
	default:
		place = ", " + quoted(wrong.Expr)
	}
	return fmt.Errorf("%s is no regular expression (RE2): %s%s", quoted(text), wrong.Code, place)
}

// mayMatch reports whether a character can be a part of what an expression matches.
func mayMatch(re *syntax.Regexp, c rune) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return slices.Contains(re.Rune, c)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i] <= c && c <= re.Rune[i+1] {
				return true
			}
		}
		return false
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	}
	return slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return mayMatch(sub, c) })
}

// parseDelimiters reads the characters that may begin an extension.
func parseDelimiters(text string) (string, error) {
	for i, r := range text {
		if r >= utf8.RuneSelf || !unicode.IsPunct(r) && !unicode.IsSymbol(r) || strings.ContainsRune(`@"\()<>[],;:`, r) {
			return "", fmt.Errorf("expected characters such as \"+\" or \"+-\" that may begin the extension of an address, got %s", quoted(text))
		}
		if strings.ContainsRune(text[:i], r) {
			return "", fmt.Errorf("%s has the character %s twice", quoted(text), quoted(string(r)))
		}
	}
	return text, nil
}

// parseClients reads a network of clients that is not everybody.
func parseClients(text string) (netip.Prefix, error) {
	network, err := parseNetwork(text)
	if err == nil && network.Bits() == 0 {
		return network, fmt.Errorf("%s is every client, to whom nothing would be refused; to refuse nothing, set the domains to report or pass", quoted(text))
	}
	return network, err
}

// checkLists finds entries that have no effect, or the opposite of another's. The order of the
// lists says what becomes of these, so that they are no errors.
func (r *reader) checkLists(c *Config) {
	for i, entry := range c.Accept {
		r.checkEntry(c, fmt.Sprintf("accept[%d]", i), entry)
	}
	for i := range c.Canaries.Accept {
		r.neverMatches(fmt.Sprintf("canaries.accept[%d]", i))
	}
	for i := range c.Canaries.Refuse {
		r.neverMatches(fmt.Sprintf("canaries.refuse[%d]", i))
	}
	for i, a := range c.Refuse {
		path := fmt.Sprintf("refuse[%d]", i)
		r.checkEntry(c, path, a.String())
		if n := slices.Index(c.Accept, a.String()); n >= 0 {
			r.warnAt(r.at[path], "%s: %s is in accept as well (accept[%d]), which comes first", path, quoted(a.String()), n)
		}
		if local := c.alwaysAccepted(a); local != "" {
			r.warnAt(r.at[path], "%s: %s is never refused, because always_accept has %s; take it out there", path, quoted(a.String()), quoted(local))
		}
	}
}

// neverMatches finds an entry that can match no recipient.
func (r *reader) neverMatches(path string) bool {
	err := address.CheckEntry(r.written[path])
	if err != nil {
		r.warnAt(r.at[path], "%s: %s can never match: %v", path, quoted(r.written[path]), err)
	}
	return err != nil
}

// checkEntry finds entries that can never match, and those of domains that are not ours, in
// which every recipient is accepted. A domain of ours in mode pass may have entries: it is
// switched off for a while.
func (r *reader) checkEntry(c *Config, path, entry string) {
	if r.neverMatches(path) {
		return
	}
	domain := entry[strings.LastIndexByte(entry, '@')+1:]
	if !c.HasEntry(domain) && len(c.Domains) > 0 {
		r.warnAt(r.at[path], "%s: %s has no effect, because %s is not judged here; add it to domains, or leave the entry out", path, quoted(entry), quoted(domain))
	}
}

// alwaysAccepted is the local part in always_accept under which an address is accepted;
// empty: none.
func (c *Config) alwaysAccepted(a address.Address) string {
	bare, _ := a.WithoutExtension(c.RecipientDelimiter)
	for _, form := range []address.Address{a, bare} {
		if slices.Contains(c.AlwaysAccept, form.Local()) {
			return form.Local()
		}
	}
	return ""
}
