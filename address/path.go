package address

import "strings"

// ParsePath reads the argument of a RCPT command (RFC 5321 section 4.1.2 Path) and common
// deviations: no angle brackets, a source route (ignored as in RFC 5321 appendix C), a
// display name before the brackets, comments. The error wraps ErrSyntax.
func ParsePath(text string) (Address, error) {
	text = strings.Trim(withoutComments(text), " \t")
	text = strings.Trim(inBrackets(text), " \t")
	return Parse(withoutRoute(text))
}

// inBrackets returns the text in angle brackets, or the whole text without them. The closing
// bracket may be missing, because the milter session trims the outer ones.
func inBrackets(text string) string {
	open := -1
	scan(text, func(i int, c byte) {
		if c == '<' {
			open = i
		}
	})
	text = text[open+1:]
	end := len(text)
	scan(text, func(i int, c byte) {
		if c == '>' && end == len(text) {
			end = i
		}
	})
	return text[:end]
}

// withoutRoute removes a leading source route "@one,@two:".
func withoutRoute(text string) string {
	if !strings.HasPrefix(text, "@") {
		return text
	}
	colon := -1
	scan(text, func(i int, c byte) {
		if c == ':' && colon < 0 {
			colon = i
		}
	})
	return text[colon+1:]
}

// withoutComments removes comments in parentheses, which nest (RFC 5322 section
// 3.2.2). An unclosed comment stays and makes the address invalid.
func withoutComments(text string) string {
	if !strings.Contains(text, "(") {
		return text
	}
	var out strings.Builder
	depth, start := 0, 0
	scan(text, func(i int, c byte) {
		switch {
		case c == '(':
			if depth == 0 {
				out.WriteString(text[start:i])
				start = i
			}
			depth++
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				start = i + 1
			}
		}
	})
	out.WriteString(text[start:])
	return out.String()
}

// scan calls visit for every byte outside quoted strings and quoted pairs.
func scan(text string, visit func(i int, c byte)) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted:
			visit(i, c)
		}
	}
}
