package address

import (
	"strings"
	"unicode"
)

// Invisible reports whether a reader cannot see a character, or takes it for a plain
// space: format characters such as zero width space, byte order mark, soft hyphen and
// the marks of direction, the fillers of Hangul, and every space beyond ASCII. Such
// characters come into a directory with text that was copied from elsewhere.
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

// FirstInvisible returns the first invisible character of a text, and whether there is
// one.
func FirstInvisible(text string) (rune, bool) {
	if at := strings.IndexFunc(text, Invisible); at >= 0 {
		for _, r := range text[at:] {
			return r, true
		}
	}
	return 0, false
}
