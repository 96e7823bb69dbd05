// Package address has one canonical, comparable form of a mailbox address. The index and
// every look-up use it.
//
// The canonical form of local@domain is
//
//   - the local part unquoted, in Unicode NFC with full case folding, and then
//     quoted again only if necessary (RFC 5321 section 4.1.2); text that resembles a
//     dot-atom is opaque, so "john..doe" stays as it is, because directories have such
//     addresses and senders write to them;
//   - the domain in lower case, internationalised labels as A-labels (RFC 5890),
//     mapped by UTS #46 without the transitional rules; an address literal is kept
//     as text, an IPv6 address in the spelling of RFC 5952;
//   - at most MaxLength bytes in UTF-8.
//
// # Equality
//
// RFC 5321 section 2.4 lets a host treat local parts case-sensitively. Active
// Directory compares text by the sorting weights of Windows (MS-UCODEREF), without
// case, width, kana type and non-spacing marks, and so do mail systems that use it. Postfix
// applies full case folding to a recipient, without normalization, before a milter sees it:
// "Straße" arrives as "strasse". This package therefore folds in full too. The directory
// also treats the two as equal, and the forms of sigma.
//
// Differences in accents, width and the like remain, although a search in the directory
// ignores them: é and e, ø and o, æ and ae, ı and i. Conversely, folding maps a few letters
// to one that the directory distinguishes (the micro sign and mu, the long s, Greek letters
// with iota subscript, capital letters newer than its tables). Postfix does the same.
//
// All functions are pure and safe for concurrent use.
package address

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLength is the maximum length of a canonical address in bytes: the limit of Exchange for
// an SMTP proxy address, far above the 320 of RFC 5321 section 4.5.3.1.
const MaxLength = 571

// maxSpelling limits the text that is parsed, in bytes. No spelling of a valid address is longer.
const maxSpelling = 4 * MaxLength

// ErrSyntax is wrapped by errors about text that is not a mailbox address.
var ErrSyntax = errors.New("not a mailbox address")

// Address is a canonical mailbox. Two addresses are the same mailbox if and only if they are
// ==. The zero value is no address.
type Address struct{ text string }

// String returns the canonical text local@domain, or "" for the zero value. It contains no
// control characters, but may contain any other Unicode text.
func (a Address) String() string { return a.text }

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a.text == "" }

// Local returns the canonical local part, quoted if necessary.
func (a Address) Local() string { return a.text[:max(strings.LastIndexByte(a.text, '@'), 0)] }

// Unquoted returns what the local part means: without quotes and backslashes, so not canonical.
func (a Address) Unquoted() string {
	content, err := unquote(a.Local())
	if err != nil { // a canonical local part is always readable
		return a.Local()
	}
	return content
}

// In returns the same local part in another canonical domain, or the zero value if a is zero
// or the result is longer than MaxLength.
func (a Address) In(domain string) Address {
	if moved := a.Local() + "@" + domain; !a.IsZero() && len(moved) <= MaxLength {
		return Address{moved}
	}
	return Address{}
}

// Domain returns the canonical domain: lower case, A-labels.
func (a Address) Domain() string { return a.text[strings.LastIndexByte(a.text, '@')+1:] }

// Parse reads one mailbox, local@domain, as a directory stores it or Postfix prints it. The
// domain follows the last @. It accepts more than RFC 5321 (see the package comment), because
// mail for an address that cannot be read would be rejected. The error wraps ErrSyntax.
func Parse(text string) (Address, error) {
	local, domain, err := split(text)
	if err != nil {
		return Address{}, err
	}
	content, err := unquote(local)
	if err != nil {
		return Address{}, err
	}
	return compose(content, domain)
}

// split returns what is before and after the last @. The local part is not empty.
func split(text string) (local, domain string, err error) {
	text = strings.Trim(text, " \t")
	if len(text) > maxSpelling {
		return "", "", fmt.Errorf("%w: longer than %d bytes", ErrSyntax, MaxLength)
	}
	if !utf8.ValidString(text) {
		return "", "", fmt.Errorf("%w: not valid UTF-8", ErrSyntax)
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return "", "", fmt.Errorf("%w: no @", ErrSyntax)
	}
	if at == 0 {
		return "", "", fmt.Errorf("%w: nothing before the @", ErrSyntax)
	}
	return text[:at], text[at+1:], nil
}

// unquote returns the content of a local part: quoted strings and quoted pairs
// resolved (RFC 5321 section 4.1.2 Quoted-string, RFC 5322 section 4.4 obs-local-part,
// where quoted and plain words alternate between dots).
func unquote(local string) (string, error) {
	var content strings.Builder
	quoted := false
	for i := 0; i < len(local); i++ {
		switch c := local[i]; {
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("%w: control character", ErrSyntax)
		case c == '\\':
			if i++; i == len(local) || local[i] < ' ' || local[i] == 0x7f {
				return "", fmt.Errorf("%w: backslash before nothing printable", ErrSyntax)
			}
			content.WriteByte(local[i])
		case c == '"':
			if !wordBoundary(local, i, quoted) {
				return "", fmt.Errorf("%w: quote in the middle of a word", ErrSyntax)
			}
			quoted = !quoted
		case !quoted && strings.IndexByte("()<>", c) >= 0:
			return "", fmt.Errorf("%w: %q outside quotes", ErrSyntax, c)
		default:
			content.WriteByte(c)
		}
	}
	if quoted {
		return "", fmt.Errorf("%w: quote not closed", ErrSyntax)
	}
	return content.String(), nil
}

// wordBoundary reports whether a quote at i may open (or, inside a quoted string,
// close) a word: words end at dots and at the ends of the local part.
func wordBoundary(local string, i int, closing bool) bool {
	if closing {
		return i+1 == len(local) || local[i+1] == '.'
	}
	return i == 0 || local[i-1] == '.'
}

// quote returns a local part for its content, in quotes only if they are necessary to read
// the same content back.
func quote(content string) string {
	if content != "" && !strings.ContainsAny(content, " \"(),:;<>@[\\]") {
		return content
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(content); i++ {
		if content[i] == '"' || content[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(content[i])
	}
	b.WriteByte('"')
	return b.String()
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
