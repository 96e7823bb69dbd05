package config

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escapeRemedy is what to do about a backslash that is not meant as an escape, as in "CORP\xsvc".
const escapeRemedy = "in double quotes a backslash begins an escape; use single quotes around the text"

// hexDigits are the digits that follow an escape by its letter (YAML 1.2.2 section 5.7).
var hexDigits = map[byte]int{'x': 2, 'u': 4, 'U': 8}

// hasMistakenEscape reports whether a text in double quotes at a position has a backslash that is hardly meant as an
// escape: one without its hexadecimal digits, of which the parser makes some character, or a short escape of an
// invisible character outside of a distinguished name. Control characters are left to text, which also names the key.
// The tokens of the parser lack the digits, so this looks at the file.
func (r *reader) hasMistakenEscape(at position) bool {
	text := r.sourceFrom(at)
	if !strings.HasPrefix(text, `"`) {
		return false
	}
	inName := beginsName.MatchString(text)
	for i := 1; i+1 < len(text) && text[i] != '"'; i++ {
		if text[i] != '\\' {
			continue
		}
		if isMistaken(text[i+1:], inName) && !(text[i+1] == ' ' && beginsLine(text[:i])) {
			return true
		}
		i++
	}
	return false
}

// beginsLine reports whether what follows a text is the first of a line but for white space. There a space needs an
// escape, and programs that wrap long texts write it so.
func beginsLine(before string) bool {
	last := strings.LastIndexByte(before, '\n')
	return last >= 0 && strings.TrimSpace(before[last:]) == ""
}

// beginsName matches the beginning of a distinguished name in double quotes.
var beginsName = regexp.MustCompile(`^"(?i)` + rdnType + `=`)

// isMistaken reports whether the escape with this letter and what follows is hardly meant as one. inName reports that
// it is in a distinguished name. Names of containers have invisible characters, and PyYAML and Ansible write them so.
func isMistaken(escape string, inName bool) bool {
	switch escape[0] {
	case ' ': // YAML makes a space of it, but at the end of a name it is an escape of LDAP (RFC 4514 section 2.4)
		return true
	case '_', 'L', 'P': // a no-break space, separators of lines and paragraphs
		return !inName
	}
	digits := hexDigits[escape[0]]
	if digits == 0 {
		return false
	}
	code, err := strconv.ParseUint(escape[1:min(1+digits, len(escape))], 16, 32)
	if err != nil || len(escape) <= digits {
		return true
	}
	// "CORP\xadmin" is an account, and no soft hyphen. But programs that write JSON escape invisible characters with
	// four digits, which an account hardly has after its first letter.
	c := rune(code)
	return digits == 2 && !inName && !unicode.IsPrint(c) && !unicode.IsControl(c)
}

// linesOf returns the lines of the file, each to the end of the file.
func linesOf(data []byte) []string {
	var lines []string
	for rest, more := string(data), true; more; {
		lines = append(lines, rest)
		_, rest, more = strings.Cut(rest, "\n")
	}
	return lines
}

// sourceFrom returns the file from a position on; columns count characters.
func (r *reader) sourceFrom(at position) string {
	if at.line < 1 || at.line > len(r.lines) {
		return ""
	}
	rest := r.lines[at.line-1]
	for range at.column - 1 {
		_, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
	}
	return rest
}
