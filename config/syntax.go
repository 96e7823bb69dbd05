package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// syntax records an error of the parser without the excerpt of the source, and with the remedy of
// common mistakes.
func (r *reader) syntax(err error, data []byte) {
	var at interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &at) || at.GetToken() == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		r.failAt(position{}, "not valid YAML: %s", first)
		return
	}
	p := positionOf(at.GetToken())
	if r.hasMistakenEscape(p) {
		r.failAt(p, "not valid YAML: %s", escapeRemedy)
		return
	}
	if advice := remedy(at.GetMessage(), lineOf(data, p.line)); advice != "" {
		r.failAt(p, "not valid YAML: %s", advice)
		return
	}
	r.failAt(p, "not valid YAML: %s", at.GetMessage())
}

// lineOf returns a line of the file, from 1, without its comment.
func lineOf(data []byte, number int) string {
	lines := bytes.Split(data, []byte("\n"))
	if number < 1 || number > len(lines) {
		return ""
	}
	text, _, _ := strings.Cut(string(lines[number-1]), " #")
	return strings.TrimRight(text, " \t\r")
}

// remedies are what to do about messages of the parser that contain a text, by the first that fits.
var remedies = []struct{ message, remedy string }{
	{"unknown escape character", escapeRemedy},
	{"block sequence entries are not allowed", `a dash begins an item of a list, which needs a line of its own; ` +
		`the text "-" needs quotes`},
	{"'\t'", "a tab indents this line; YAML indents with spaces only: replace each tab by spaces"},
	{"tab character", "a tab indents this line; YAML indents with spaces only: replace each tab by spaces"},
	{"',' or ']' must", "the bracket [ is not closed, or a comma is missing; write ] after the last item"},
	{"',' or '}' must", "the brace { is not closed, or a comma is missing; write } after the last value"},
	{"']' not found", "the bracket [ is not closed; write ] after the last item"},
	{"'}' not found", "the brace { is not closed; write } after the last value"},
	{"'@' is a reserved character", `a text that begins with @ needs quotes, as in "@example.com"`},
	{"'`' is a reserved character", "a text that begins with a backquote needs quotes"},
	{"mapping value is not allowed in this context", "this line has a second colon; put quotes around a text with a " +
		"colon and a space"},
	{"value is not allowed in this context", "the indentation does not match the lines above; keys that belong " +
		"together begin in the same column"},
}

// starred is a line with a text that begins with an asterisk, where the parser expects none: that would be an
// alias of YAML.
var starred = regexp.MustCompile(`(?:^|[{,])\s*\*\.?[A-Za-z0-9.-]*:`)

// plainKey is a line that looks like a key and its value without a colon between them.
var plainKey = regexp.MustCompile(`^\s*(?:- )?([A-Za-z0-9.][A-Za-z0-9._-]*)(:?)(\s*)(\S.*)?$`)

// remedy returns the fact and the remedy for a message of the parser about a line, or "".
func remedy(message, line string) string {
	if starred.MatchString(line) {
		return "a text that begins with an asterisk needs quotes; for all sub-domains of example.com write " +
			`".example.com"`
	}
	for _, r := range remedies {
		if strings.Contains(message, r.message) {
			return r.remedy
		}
	}
	m := plainKey.FindStringSubmatch(line)
	switch {
	case m == nil:
		return ""
	case m[2] == "" && m[4] == "":
		return fmt.Sprintf("no colon after %q; write \"%s:\"", m[1], m[1])
	case m[2] == "" && m[3] != "":
		return fmt.Sprintf("no colon after %q; write %q", m[1], m[1]+": "+m[4])
	case m[2] != "" && m[3] == "" && m[4] != "":
		return fmt.Sprintf("no space after the colon of %q; write %q", m[1], m[1]+": "+m[4])
	}
	return ""
}
