package address

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseLiteral reads local@domain where the local part stands for itself: quotes,
// backslashes and brackets in it are characters like any other. A directory may hold
// (p)@example.com, and mail for it comes as "(p)"@example.com. The domain is what
// follows the last @. The error wraps ErrSyntax.
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

// compose makes the canonical address of a local part without quotes and a domain.
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
