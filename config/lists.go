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
	"rcpt-milter/policy"
)

// Exempt are clients whose recipients are all accepted.
type Exempt struct {
	Networks      []netip.Prefix // client addresses
	Authenticated bool           // authenticated clients; default false
}

// parseAccepted reads an address, or "@domain" for all recipients of a domain.
func parseAccepted(text string) (string, error) {
	if domain, whole := strings.CutPrefix(text, "@"); whole {
		domain, err := address.ParseDomain(domain)
		if err != nil || strings.Contains(domain, "*") {
			return "", fmt.Errorf("expected a domain after the @, such as \"@example.com\", got %s", quoted(text))
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
		return address.Address{}, fmt.Errorf("expected an address, got the domain %s; unknown recipients of a domain "+
			"are rejected anyway", quoted(text))
	}
	return parseAddress(text)
}

// improbable are addresses that only a pattern for every address matches.
var improbable = []string{"qzx7.kw-92_v@zqx.unlikely.invalid", "0@z.invalid"}

// parsePattern reads an RE2 pattern for whole addresses. It rejects patterns that match no
// address, or every address.
func parsePattern(text string) (string, error) {
	if text == "" {
		return "", errors.New("must not be empty")
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return "", patternError(text, err)
	}
	if !mayMatch(parsed, '@') {
		return "", fmt.Errorf("%s matches no address: a pattern must match the whole address, for example %s",
			quoted(text), quoted(`sales-.*@example\.com`))
	}
	compiled, err := regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
	if err != nil { // too large when compiled
		return "", patternError(text, err)
	}
	if !slices.ContainsFunc(improbable, func(a string) bool { return !compiled.MatchString(a) }) {
		return "", fmt.Errorf("%s matches every address, so no recipient would be rejected; use \"@example.com\" in "+
			"accept for all recipients of a domain", quoted(text))
	}
	return text, nil
}

// patternError describes a syntax error and its position, which it derives from the
// expression that the parser quotes.
func patternError(text string, err error) error {
	var wrong *syntax.Error
	if !errors.As(err, &wrong) {
		return fmt.Errorf("%s is not a valid regular expression (RE2): %w", quoted(text), err)
	}
	place := ""
	switch strings.Count(text, wrong.Expr) {
	case 0: // about the whole expression
	case 1:
		if wrong.Expr != text {
			at := utf8.RuneCountInString(text[:strings.Index(text, wrong.Expr)]) + 1
			place = fmt.Sprintf(" at character %d, %s", at, quoted(wrong.Expr))
		}
	default:
		place = ", " + quoted(wrong.Expr)
	}
	return fmt.Errorf("%s is not a valid regular expression (RE2): %s%s", quoted(text), wrong.Code, place)
}

// mayMatch reports whether a match of an expression may contain a character.
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

// parseDelimiters reads the characters that separate an extension.
func parseDelimiters(text string) (string, error) {
	for i, r := range text {
		if r >= utf8.RuneSelf || !unicode.IsPunct(r) && !unicode.IsSymbol(r) ||
			strings.ContainsRune(`@"\()<>[],;:`, r) {
			return "", fmt.Errorf("expected delimiters such as \"+\" or \"+-\", got %s", quoted(text))
		}
		if strings.ContainsRune(text[:i], r) {
			return "", fmt.Errorf("%s contains %s twice", quoted(text), quoted(string(r)))
		}
	}
	return text, nil
}

// stripPrefix matches a prefix of strip_prefixes.
var stripPrefix = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}={1,2}$`)

// parseStripPrefix reads the beginning of a tagged local part.
func parseStripPrefix(text string) (string, error) {
	prefix := strings.ToLower(text)
	if !stripPrefix.MatchString(prefix) {
		return "", fmt.Errorf("expected a prefix such as \"prvs=\", letters and digits with one or two \"=\" at the "+
			"end, got %s", quoted(text))
	}
	return prefix, nil
}

// parseClients reads a network of clients, which must not be every client.
func parseClients(text string) (netip.Prefix, error) {
	network, err := parseNetwork(text)
	if err == nil && network.Bits() == 0 {
		return network, fmt.Errorf("%s matches every client, so no recipient would be rejected; use mode report or "+
			"pass for that", quoted(text))
	}
	return network, err
}

// parseNAT64 reads the prefix of a translator.
func parseNAT64(text string) (netip.Prefix, error) {
	prefix, err := parseNetwork(text)
	if err == nil {
		err = policy.CheckNAT64(prefix)
	}
	if err != nil {
		return netip.Prefix{},
			fmt.Errorf("expected a NAT64 prefix such as \"64:ff9b::/96\" (/32, /40, /48, /56, /64 or "+
				"/96), got %s", quoted(text))
	}
	return prefix, nil
}

// delimited matches patterns as tables of type regexp and pcre have them.
var delimited = regexp.MustCompile(`^!?/.*/[A-Za-z]*$`)

// checkLists warns of entries that have no effect or contradict another entry. They are no
// errors, because the order of the lists is defined.
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
	for i, pattern := range c.AcceptPatterns {
		if path := fmt.Sprintf("accept_patterns[%d]", i); delimited.MatchString(pattern) {
			r.warnAt(r.at[path], "%s: the slashes around %s are part of the pattern, and no address has them; "+
				"remove the delimiters and flags of a pcre table", path, quoted(pattern))
		}
	}
	for i, a := range c.Refuse {
		path := fmt.Sprintf("refuse[%d]", i)
		r.checkEntry(c, path, a.String())
		if n := slices.Index(c.Accept, a.String()); n >= 0 {
			r.warnAt(r.at[path], "%s: %s is also in accept (accept[%d]), which takes precedence", path,
				quoted(a.String()), n)
		}
		if local := c.alwaysAccepted(a); local != "" {
			r.warnAt(r.at[path], "%s: %s is never rejected, because always_accept contains %s; remove it there", path,
				quoted(a.String()), quoted(local))
		}
	}
}

// neverMatches warns of an entry that can match no recipient, or only one with an unusual name. It reports whether it
// has warned.
func (r *reader) neverMatches(path string) bool {
	what, err := "can never match", address.CheckEntry(r.written[path])
	if err == nil {
		what, err = "is taken literally", address.CheckLiteral(r.written[path])
	}
	if err != nil {
		r.warnAt(r.at[path], "%s: %s %s: %v", path, quoted(r.written[path]), what, err)
	}
	return err != nil
}

// checkEntry warns of an entry that can never match, and of one whose domain has no entry in
// domains. Domains in mode pass may have entries, because the mode may be temporary.
func (r *reader) checkEntry(c *Config, path, entry string) {
	if r.neverMatches(path) {
		return
	}
	domain := entry[strings.LastIndexByte(entry, '@')+1:]
	if !c.HasEntry(domain) && len(c.Domains) > 0 {
		r.warnAt(r.at[path], "%s: %s has no effect, because %s has no entry in domains; "+
			"add the domain, or remove the entry",
			path, quoted(entry), quoted(domain))
	}
}

// alwaysAccepted returns the local part in always_accept that accepts an address, or "".
func (c *Config) alwaysAccepted(a address.Address) string {
	bare, _ := a.WithoutExtension(c.RecipientDelimiter)
	for _, form := range []address.Address{a, bare} {
		if slices.Contains(c.AlwaysAccept, form.Local()) {
			return form.Local()
		}
	}
	return ""
}
