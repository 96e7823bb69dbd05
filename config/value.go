package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"rcpt-milter/internal/text"
)

// value is one value of the file and its path.
type value struct {
	*reader
	path string // such as directories[0].bind; empty for the whole file
	node *node
}

// field reads a value into its target, or records an error.
type field func(value)

// fields are the keys of one mapping.
type fields map[string]field

func (v value) fail(format string, args ...any) {
	v.failAt(v.node.position, "%s: %s", v.path, fmt.Sprintf(format, args...))
}

// expected records that the value is not the expected one.
func (v value) expected(what string) {
	got := v.node.String()
	if v.node.kind == number || v.node.kind == boolean {
		got += " without quotes"
	}
	v.fail("expected %s, got %s", what, got)
}

// key returns the value of one key of a mapping.
func (v value) key(e entry) value {
	path := e.key.source
	if v.path != "" {
		path = v.path + "." + path
	}
	return value{v.reader, path, e.value}
}

// keys reads a mapping. Unknown keys and missing required keys are errors.
func keys(known fields, required ...string) field {
	return func(v value) {
		if v.node.kind != mapping {
			v.expected("keys with values (" + strings.Join(slices.Sorted(maps.Keys(known)), ", ") + ")")
			return
		}
		v.at[v.path] = v.node.position
		seen := map[string]position{}
		for _, e := range v.node.unread { // their errors are recorded
			seen[e.key.source], v.at[v.key(e).path] = e.key.position, e.value.position
		}
		splitName := false // a name without quotes was reported; its other parts say no more
		for _, e := range v.node.entries {
			name := e.key.source
			read, ok := known[name]
			if !ok {
				if part := rdn.MatchString(name); !part || !splitName {
					v.unknownKey(e.key, known)
					splitName = part
				}
				continue
			}
			if first, twice := seen[name]; twice {
				v.failAt(e.key.position, "duplicate key %q%s; the first is in line %d", name, inside(v.path),
					first.line)
				continue
			}
			seen[name] = e.key.position
			inner := v.key(e)
			v.at[inner.path] = e.value.position
			read(inner)
		}
		for _, name := range required {
			if _, ok := seen[name]; !ok {
				v.failAt(v.node.position, "key %q is missing%s", name, inside(v.path))
			}
		}
	}
}

func (v value) unknownKey(key *node, known fields) {
	names := slices.Sorted(maps.Keys(known))
	if hint := misreadKey(key.source, known); hint != "" {
		if v.path != "" {
			hint = v.path + ": " + hint
		}
		v.failAt(key.position, "%s", hint)
		return
	}
	hint := "; the keys are " + strings.Join(names, ", ")
	if near := text.Nearest(key.source, names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	v.failAt(key.position, "unknown key %s%s%s", quoted(key.source), inside(v.path), hint)
}

// rdnType matches the attribute at the beginning of one part of a distinguished name.
const rdnType = `(cn|ou|dc|o|c|l|st|uid)`

// rdn is one part of a distinguished name.
var rdn = regexp.MustCompile(`^(?i)` + rdnType + `=[^,]+$`)

// misreadKey explains what YAML reads as a key although it was not meant as one, or returns "".
func misreadKey(got string, known fields) string {
	if rdn.MatchString(got) {
		return fmt.Sprintf("%s is part of a distinguished name; put quotes around the whole name, because its commas "+
			"separate values here", quoted(got))
	}
	name, rest, spaced := strings.Cut(got, " ")
	if _, ok := known[name]; ok && spaced {
		return fmt.Sprintf("no colon after %q; write %q", name, name+": "+rest)
	}
	return ""
}

func inside(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// items reads a list. A single value is not a list.
func items(what string, item field) field {
	return func(v value) {
		if v.node.kind != list {
			v.expected("a list of " + what + " in brackets")
			return
		}
		v.eachItem(item)
	}
}

func (v value) eachItem(item field) {
	for i, n := range v.node.items {
		inner := value{v.reader, fmt.Sprintf("%s[%d]", v.path, i), n}
		v.at[inner.path], v.written[inner.path] = n.position, n.source
		item(inner)
	}
}

// unique reads a list of different texts. Two are equal if parse returns equal values.
func unique[T comparable](target *[]T, what string, parse func(string) (T, error)) field {
	return func(v value) {
		*target = nil
		seen := map[T]bool{}
		items(what, func(v value) {
			var one T
			before := len(v.errs)
			scalar(&one, parse)(v)
			if len(v.errs) > before {
				return
			}
			if seen[one] {
				v.fail("%s is in the list twice", quoted(v.node.source))
				return
			}
			seen[one] = true
			*target = append(*target, one)
		})(v)
	}
}

// scalar reads a text with parse.
func scalar[T any](target *T, parse func(string) (T, error)) field {
	return func(v value) {
		source, ok := v.text("a text")
		if !ok {
			return
		}
		got, err := parse(source)
		if err != nil {
			v.fail("%v", err)
			return
		}
		*target = got
	}
}

// text returns a printable text; what describes the expected value.
func (v value) text(what string) (string, bool) {
	if v.node.kind != stringKind {
		v.expected(what)
		return "", false
	}
	if strings.ContainsFunc(v.node.source, unicode.IsControl) {
		v.fail("%s contains a control character; a text with a backslash needs single quotes, or none",
			quoted(v.node.source))
		return "", false
	}
	return v.node.source, true
}

// choice reads one of several words.
func choice[T ~string](target *T, words ...T) field {
	return func(v value) {
		if v.node.kind == stringKind && slices.Contains(words, T(v.node.source)) {
			*target = T(v.node.source)
			return
		}
		v.expected(alternatives(words))
	}
}

// alternatives formats words for an error: "a", "b" or "c".
func alternatives[T ~string](words []T) string {
	var all []string
	for _, w := range words {
		all = append(all, fmt.Sprintf("%q", string(w)))
	}
	if len(all) == 1 {
		return all[0]
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// wordFlag reads one of two words into a bool.
func wordFlag(target *bool, unset, set string) field {
	return func(v value) {
		var word string
		choice(&word, unset, set)(v)
		*target = word == set
	}
}

// onOff reads true or false.
func onOff(target *bool) field {
	return func(v value) {
		if v.node.kind != boolean {
			v.expected("true or false")
			return
		}
		*target, _ = strconv.ParseBool(v.node.source)
	}
}

// duration reads a duration that is positive, or zero if allowed.
func duration(target *time.Duration, zeroAllowed bool) field {
	return func(v value) {
		if v.node.kind == number && v.node.source == "0" && zeroAllowed {
			*target = 0
			return
		}
		const what = "a duration such as 5s, 15m, 24h or 30d"
		if v.withoutUnit(what, "s", "m", "h") {
			return
		}
		if v.node.kind != stringKind {
			v.expected(what)
			return
		}
		d, ok := text.ParseDuration(v.node.source)
		switch {
		case !ok:
			v.expected(what)
		case d == 0 && !zeroAllowed:
			v.fail("must be positive, got %s", v.node)
		default:
			*target = d
		}
	}
}

// withoutUnit records a positive whole number that lacks its unit, and reports whether it did.
func (v value) withoutUnit(what string, units ...string) bool {
	n := v.node
	if n.kind != number && n.kind != stringKind || strings.Trim(n.source, "0123456789") != "" ||
		strings.Trim(n.source, "0") == "" {
		return false
	}
	var written []string
	for _, unit := range units {
		written = append(written, n.source+unit)
	}
	v.fail("expected %s, got %s without a unit; write %s", what, n, alternatives(written))
	return true
}

// integer reads a whole number from least to most.
func integer(target *int, least, most int) field {
	return func(v value) {
		n, err := strconv.Atoi(v.node.source)
		if v.node.kind != number || err != nil || n < least || n > most {
			v.fail("expected a whole number from %d to %d, got %s", least, most, v.node)
			return
		}
		*target = n
	}
}

// between reads a number from least to most, fractions included.
func between(target *float64, least, most float64) field {
	return func(v value) {
		n, err := strconv.ParseFloat(v.node.source, 64)
		if v.node.kind != number || err != nil || !(n >= least && n <= most) {
			v.fail("expected a number from %v to %v, got %s", least, most, v.node)
			return
		}
		*target = n
	}
}

// size reads a positive number of bytes.
func size(target *uint64) field {
	return func(v value) {
		const what = "a size with a unit such as 256MiB or 2GiB"
		if v.withoutUnit(what, "MiB", "GiB") {
			return
		}
		if v.node.kind != stringKind {
			v.expected(what)
			return
		}
		n, ok := parseSize(v.node.source)
		switch {
		case !ok:
			v.expected(what)
		case n == 0:
			v.fail("must be positive, got %s", v.node)
		default:
			*target = n
		}
	}
}
