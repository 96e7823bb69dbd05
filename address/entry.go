package address

import (
	"errors"
	"fmt"
	"strings"
)

// CheckEntry returns an error if an entry of a list of recipients can never match one, even
// if Parse accepts it: it is a URL, a pattern, several addresses and the like. Entries are
// addresses or @domain as people write them. CheckEntry does not query DNS.
func CheckEntry(text string) error {
	bare := !strings.HasPrefix(text, `"`) // in quotes special characters are intended
	if r, found := FirstInvisible(text); found {
		return fmt.Errorf("it contains the invisible character %U; remove it", r)
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return nil
	}
	local, domain := text[:at], text[at+1:]
	switch {
	case strings.HasPrefix(strings.TrimPrefix(text, "!"), "/") && strings.Contains(domain, "/"):
		return errors.New("it is a pattern of a regexp or pcre table; use accept_patterns")
	case bare && addressType(text) != "":
		return errTyped(text)
	case bare && strings.Contains(local, "@") && strings.ContainsAny(text, ",;"):
		return errors.New("it holds several addresses; write each as an entry of its own")
	case isWildcard(local):
		return fmt.Errorf("wildcards are not supported; write %q for all recipients of a domain", "@"+domain)
	}
	return CheckHost(domain)
}

// CheckLiteral returns an error if an entry that CheckEntry accepts was probably not intended as it reads: its local
// part has an @ outside of quotes, or a colon in front. Such an entry matches this local part only.
func CheckLiteral(text string) error {
	local := text[:max(0, strings.LastIndexByte(text, '@'))]
	switch {
	case CountUnquoted(local, '@') > 0:
		return errors.New("it holds several addresses, or one @ too many; write each address as a separate entry")
	case strings.HasPrefix(local, ":"):
		return errors.New("the leading colon is not part of an address; write user@domain")
	}
	return nil
}

// CountUnquoted returns how often a text has an ASCII character outside of quoted strings and not escaped.
func CountUnquoted(text string, wanted byte) int {
	count, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == wanted && !quoted:
			count++
		}
	}
	return count
}

// addressType returns the type or scheme before an address, such as "smtp:", or "".
func addressType(text string) string {
	kind, _, found := strings.Cut(text, ":")
	letter := kind != "" && (kind[0]|0x20) >= 'a' && (kind[0]|0x20) <= 'z'
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"
	if !found || !letter || strings.Trim(kind, allowed) != "" {
		return ""
	}
	return kind + ":"
}

// errTyped returns the error about an address with a type before it.
func errTyped(text string) error {
	kind := addressType(text)
	rest := text[len(kind):]
	if a, err := Parse(rest); err == nil && CheckEntry(rest) == nil && strings.Trim(a.String()[:1], `"/`) != "" {
		return fmt.Errorf("the leading %q is not part of an address; write %q", kind, a.String())
	}
	return fmt.Errorf("the leading %q is not part of an address; write user@domain", kind)
}

// isWildcard reports whether a local part is a pattern for any text.
func isWildcard(local string) bool {
	local = strings.TrimPrefix(local, "^")
	return local == "*" || local == "%" || local == ".*" || local == ".+" || local == "(.*)" || local == "(.+)"
}

// CheckHost returns an error if a domain cannot exist in DNS (RFC 5321 section 2.3.5).
func CheckHost(text string) error {
	domain, err := ParseDomain(text)
	if err != nil || strings.HasPrefix(domain, "[") {
		return nil // an error of its own, or an address literal
	}
	const longest, longestLabel = 253, 63
	for _, label := range strings.Split(domain, ".") {
		if len(label) > longestLabel || len(domain) > longest {
			return errors.New("its domain is longer than DNS allows")
		}
	}
	const inNames = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if i := strings.IndexFunc(domain, func(r rune) bool { return !strings.ContainsRune(inNames, r) }); i >= 0 {
		return fmt.Errorf("its domain contains %q, which no mail domain does", domain[i:i+1])
	}
	return nil
}
