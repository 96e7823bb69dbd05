package postfix

import (
	"strconv"
	"strings"
)

// space is the white space of Postfix, which is ASCII only.
const space = " \t\n\v\f\r"

// maxNesting bounds how deep $names may refer to each other; a loop ends there.
const maxNesting = 20

// expand resolves the $names in a value as Postfix does (postconf(5)): $name, $(name),
// ${name}, ${name?text}, ${name:text}, ${name?{text}:{text}} and comparisons
// ${{a} == {b} ? {text} : {text}}. value gives that of a name; a name that it does not
// know is empty.
func expand(text string, value func(name string) string) string {
	return expander{value}.text(text, 0)
}

type expander struct{ value func(string) string }

func (e expander) text(text string, depth int) string {
	if depth > maxNesting || !strings.Contains(text, "$") {
		return text
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{"), strings.HasPrefix(rest, "("):
			var inner string
			inner, text = inBraces(rest)
			out.WriteString(e.inner(inner, depth))
		default:
			end := 0
			for end < len(rest) && isName(rest[end]) {
				end++
			}
			out.WriteString(e.named(rest[:end], depth))
			text = rest[end:]
		}
	}
}

// named returns the value of a name.
func (e expander) named(name string, depth int) string {
	if name == "" {
		return ""
	}
	return e.text(e.value(name), depth+1)
}

// inner returns the value of a text in braces after a $.
func (e expander) inner(text string, depth int) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		holds, rest := e.compare(text, depth)
		return e.choice(holds, rest, depth)
	}
	end := 0
	for end < len(text) && isName(text[end]) {
		end++
	}
	name, rest := text[:end], strings.TrimSpace(text[end:])
	if rest == "" {
		return e.named(name, depth)
	}
	return e.choice(e.named(name, depth) != "", rest, depth)
}

// choice returns the value of "?text", ":text" or "?{text}:{text}".
func (e expander) choice(holds bool, text string, depth int) string {
	yes, no := "", ""
	switch {
	case strings.HasPrefix(text, "?"):
		yes = strings.TrimSpace(text[1:])
		if strings.HasPrefix(yes, "{") {
			var rest string
			yes, rest = inBraces(yes)
			no = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), ":"))
		}
	case strings.HasPrefix(text, ":"):
		no = strings.TrimSpace(text[1:])
	}
	if strings.HasPrefix(no, "{") {
		no, _ = inBraces(no)
	}
	if holds {
		return e.text(yes, depth+1)
	}
	return e.text(no, depth+1)
}

// compare judges "{a} operator {b}", and gives what follows.
func (e expander) compare(text string, depth int) (holds bool, rest string) {
	left, rest := inBraces(text)
	operator, rest, _ := strings.Cut(strings.TrimSpace(rest), "{")
	right, rest := inBraces("{" + rest)
	left, right = strings.TrimSpace(e.text(left, depth+1)), strings.TrimSpace(e.text(right, depth+1))
	c := compareValues(left, right)
	switch strings.TrimSuffix(strings.TrimSpace(operator), "level") {
	case "==":
		holds = c == 0
	case "!=":
		holds = c != 0
	case "<":
		holds = c < 0
	case "<=":
		holds = c <= 0
	case ">":
		holds = c > 0
	case ">=":
		holds = c >= 0
	}
	return holds, strings.TrimSpace(rest)
}

// compareValues compares numbers, and levels such as 3.6, as numbers, and the rest as text.
func compareValues(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, ok1 := part(as, i)
		y, ok2 := part(bs, i)
		if !ok1 || !ok2 {
			return strings.Compare(a, b)
		}
		if x != y {
			return x - y
		}
	}
	return 0
}

func part(all []string, i int) (int, bool) {
	if i >= len(all) {
		return 0, true
	}
	n, err := strconv.Atoi(all[i])
	return n, err == nil
}

// inBraces splits "{inner}rest" or "(inner)rest"; braces nest.
func inBraces(text string) (inner, rest string) {
	if text == "" {
		return "", ""
	}
	open, shut := text[0], byte('}')
	if open == '(' {
		shut = ')'
	}
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return text[1:i], text[i+1:]
			}
		}
	}
	return text[1:], ""
}

func isName(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// list splits a value at white space and commas, but for what stands in braces.
func list(value string) []string {
	var all []string
	for {
		value = strings.TrimLeft(value, space+",")
		if value == "" {
			return all
		}
		end, depth := 0, 0
		for ; end < len(value); end++ {
			switch c := value[end]; {
			case c == '{':
				depth++
			case c == '}':
				depth--
			}
			if depth <= 0 && strings.IndexByte(space+",", value[end]) >= 0 {
				break
			}
		}
		all = append(all, value[:end])
		value = value[end:]
	}
}
