package address

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// toASCII maps U-labels to A-labels (UTS #46, non-transitional). It checks neither
// lengths nor host name syntax: domains with an underscore exist.
var toASCII = idna.New(
	idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false),
	idna.ValidateLabels(false), idna.CheckHyphens(false), idna.CheckJoiners(false),
	idna.VerifyDNSLength(false),
)

// ParseDomain returns the canonical form of a domain: lower case, A-labels, without the dot
// of the root. An address literal stays text ("[192.0.2.1]"), except that an IPv6 address
// gets the spelling of RFC 5952. The error wraps ErrSyntax.
func ParseDomain(text string) (string, error) {
	if len(text) > maxSpelling { // mapping takes a time that grows with the square of the length
		return "", fmt.Errorf("%w: domain longer than %d bytes", ErrSyntax, MaxLength)
	}
	domain := strings.TrimSuffix(text, ".")
	ascii, folded := foldASCII(domain)
	if !ascii {
		mapped, err := toASCII.ToASCII(domain)
		if err != nil {
			return "", fmt.Errorf("%w: domain: %w", ErrSyntax, err)
		}
		_, folded = foldASCII(strings.TrimSuffix(mapped, "."))
	}
	if err := checkDomain(folded); err != nil {
		return "", err
	}
	return literal(folded), nil
}

// literal returns the canonical spelling of an address literal (RFC 5321 section 4.1.3).
func literal(domain string) string {
	text, ip6 := strings.CutPrefix(domain, "[ipv6:")
	if !ip6 {
		return domain
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(text, "]"))
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return domain
	}
	return "[ipv6:" + addr.String() + "]"
}

// checkDomain rejects characters with another meaning in an address. It checks the mapped
// domain, because the mapping turns a full-width @ into @.
func checkDomain(domain string) error {
	if len(domain) > 1 && domain[0] == '[' && domain[len(domain)-1] == ']' {
		domain = domain[1 : len(domain)-1]
		if domain == "" || strings.ContainsFunc(domain, isSpecial(":")) {
			return fmt.Errorf("%w: malformed address literal", ErrSyntax)
		}
		return nil
	}
	if domain == "" || domain[0] == '.' || strings.Contains(domain, "..") || strings.HasSuffix(domain, ".") {
		return fmt.Errorf("%w: domain with an empty label", ErrSyntax)
	}
	if strings.ContainsFunc(domain, isSpecial("")) {
		return fmt.Errorf("%w: character not allowed in a domain", ErrSyntax)
	}
	return nil
}

// isSpecial matches characters that no domain contains: space, control and non-ASCII
// characters, and the specials of RFC 5322 section 3.2.3 except the dot and those allowed.
func isSpecial(allowed string) func(rune) bool {
	return func(r rune) bool {
		return r <= ' ' || r >= 0x7f ||
			strings.ContainsRune("()<>[]:;@\\,\"", r) && !strings.ContainsRune(allowed, r)
	}
}

// DomainOf returns the canonical domain of an address, even if Parse cannot read it: the text
// after the last @ as far as it can be a domain, without quotes and backslashes. It returns
// "" without an @ or a valid domain. The policy uses it to reject invalid addresses in judged
// domains.
func DomainOf(text string) string {
	at := strings.LastIndexByte(text, '@')
	text = strings.Trim(text[at+1:], " \t\r\n")
	if end := strings.IndexAny(text, " \t\r\n()<>,;"); end >= 0 {
		text = text[:end]
	}
	domain, err := ParseDomain(withoutQuotes.Replace(text))
	if err != nil || at < 0 {
		return ""
	}
	return domain
}

// withoutQuotes removes quotes and backslashes, which no domain needs.
var withoutQuotes = strings.NewReplacer(`"`, "", `\`, "")

// WithDomainOf returns a with the domain of b if the domain of a is the case folding of that
// of b, and otherwise a. Postfix folds the whole address, so straße.example becomes
// strasse.example, which is another domain; likewise a final sigma. b is the address as the
// client sent it.
func (a Address) WithDomainOf(b Address) Address {
	if b.IsZero() || a.Domain() == b.Domain() || !strings.Contains(b.Domain(), "xn--") {
		return a
	}
	labels, err := idna.ToUnicode(b.Domain())
	if err != nil {
		return a
	}
	folded, err := ParseDomain(fold(labels))
	if restored := a.Local() + "@" + b.Domain(); err == nil && folded == a.Domain() && len(restored) <= MaxLength {
		return Address{restored}
	}
	return a
}
