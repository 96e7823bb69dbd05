package text

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns text from the network, a directory or a file in a form that is safe on a
// terminal and in a log. Everything that could move the cursor, colour, reorder or hide other
// text becomes a Go escape sequence. Quotes and backslashes stay, because addresses have them.
func Printable(s string) string { return Shortened(s, 0) }

// Shortened returns the printable form of a text, cut after limit bytes and marked with "...".
// Zero means no limit.
func Shortened(s string, limit int) string {
	if IsPrintable(s) && (limit == 0 || len(s) <= limit) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		if limit > 0 && b.Len() >= limit {
			b.WriteString("...")
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		if isPrint(r, size) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// Quoted returns a text in double quotes and Go syntax, for an error message. One of more than
// limit characters is cut and ends with "...".
func Quoted(s string, limit int) string {
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit-3]) + "..."
	}
	return strconv.Quote(s)
}

// IsPrintable reports whether a text is valid UTF-8 and needs no escape sequence.
func IsPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return utf8.ValidString(s[i:]) &&
				!strings.ContainsFunc(s[i:], func(r rune) bool { return !unicode.IsPrint(r) })
		}
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// isPrint reports whether a decoded character prints; a byte that is not UTF-8 does not.
func isPrint(r rune, size int) bool { return unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) }

// PrintableJSON returns encoded JSON with the same content, in which everything that does not
// print, except the ends of lines, is an escape sequence of JSON.
func PrintableJSON(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
