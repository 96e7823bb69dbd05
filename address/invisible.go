package address

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Invisible reports whether a character is invisible or looks like a plain space: format
// characters such as zero width space, byte order mark, soft hyphen and
// the marks of direction, the fillers of Hangul, and every space beyond ASCII. Such
// characters get into a directory with copied text.
func Invisible(r rune) bool {
	switch {
	case r < 0x80:
		return false
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // format characters with a form of their own
		return false
	case r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0: // Hangul fillers
		return true
	}
	return unicode.In(r, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp)
}

// FirstInvisible returns the first invisible character of a text, and whether there is one.
// It ignores a joiner between two non-ASCII characters, which some scripts need inside a
// word (RFC 5892 appendix A.1 and A.2).
func FirstInvisible(text string) (rune, bool) {
	for at := 0; at < len(text); {
		found := strings.IndexFunc(text[at:], Invisible)
		if found < 0 {
			break
		}
		at += found
		r, size := utf8.DecodeRuneInString(text[at:])
		if !joinsScript(text[:at], r, text[at+size:]) {
			return r, true
		}
		at += size
	}
	return 0, false
}

// joinsScript reports whether a character is a joiner between two visible characters
// beyond ASCII.
func joinsScript(before string, r rune, after string) bool {
	const zeroWidthNonJoiner, zeroWidthJoiner = 0x200C, 0x200D
	if r != zeroWidthNonJoiner && r != zeroWidthJoiner {
		return false
	}
	last, _ := utf8.DecodeLastRuneInString(before)
	next, _ := utf8.DecodeRuneInString(after)
	return beyondASCII(last) && beyondASCII(next)
}

func beyondASCII(r rune) bool { return r >= utf8.RuneSelf && r != utf8.RuneError && !Invisible(r) }
