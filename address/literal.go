package address

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseLiteral reads local@domain with a literal local part: quotes, backslashes and brackets
// are ordinary characters. A directory may have (p)@example.com, and mail for it has the
// recipient "(p)"@example.com. The domain follows the last @. The error wraps ErrSyntax.
func ParseLiteral(text string) (Address, error) {
	text = strings.Trim(text, " \t")
	if len(text) > 4*MaxLength {
		return Address{}, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, MaxLength)
	}
	if !utf8.ValidString(text) {
		return Address{}, fmt.Errorf("%w: not valid UTF-8", ErrSyntax)
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return Address{}, fmt.Errorf("%w: no @", ErrSyntax)
	}
	if at == 0 {
		return Address{}, fmt.Errorf("%w: nothing before the @", ErrSyntax)
	}
	return compose(text[:at], text[at+1:])
}

// compose returns the canonical address of an unquoted local part and a domain.
func compose(content, domainText string) (Address, error) {
	if strings.ContainsFunc(content, unicode.IsControl) {
		return Address{}, fmt.Errorf("%w: control character", ErrSyntax)
	}
	domain, err := ParseDomain(domainText)
	if err != nil {
		return Address{}, err
	}
	canonical := quote(fold(content)) + "@" + domain
	if len(canonical) > MaxLength {
		return Address{}, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, MaxLength)
	}
	return Address{canonical}, nil
}
