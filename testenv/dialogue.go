package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// Dialogue is an SMTP conversation in a text file:
//
//	# A comment. Empty lines are ignored.
//	S: 220 mx...                  the server's next reply must match
//	C: RCPT TO:<${user}@x.example>    the client sends this line
//	S: 550 5.1.1 <${user}@x.example>: Recipient address rejected: User unknown
//	S~ ^(250|251) .*$             the reply must match a regular expression
//	S! closed                     the server must have closed the connection
//	=> alice@x.example            exactly these recipients must get the message
//
// In a pattern, "..." matches any text, including further lines of the same reply; all other
// characters match themselves. Consecutive S: lines are the lines of one reply. ${name} is a
// variable in every kind of line. A client line without a reply after it (a message's text,
// pipelining) is only sent.
type Dialogue struct {
	name  string
	steps []step
	// Delivered are the recipients of the => lines, which Run ignores.
	Delivered []string
}

// step is one line, or one reply.
type step struct {
	line    int
	kind    stepKind
	text    string         // the line to send, or the pattern as written
	pattern *regexp.Regexp // for a reply
}

type stepKind int

const (
	sendLine stepKind = iota
	expectReply
	expectClose
)

// ReadDialogue reads a dialogue from a file and fills in its variables.
func ReadDialogue(path string, variables map[string]string) (*Dialogue, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("dialogue: %w", err)
	}
	return ParseDialogue(path, string(text), variables)
}

// ParseDialogue parses a dialogue; name appears in error messages.
func ParseDialogue(name, text string, variables map[string]string) (*Dialogue, error) {
	d := &Dialogue{name: name}
	joinable := false // the previous line was an S: line
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			joinable = false
			continue
		}
		marker, rest := cutMarker(line)
		rest, err := expand(rest, variables)
		if err == nil {
			err = d.parseLine(number, marker, rest, joinable)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		joinable = marker == "S:"
	}
	if len(d.steps) == 0 {
		return nil, fmt.Errorf("%s: dialogue is empty", name)
	}
	return d, nil
}

// cutMarker splits "S: text" into "S:" and "text". One space after the marker belongs to the
// marker, further spaces to the text.
func cutMarker(line string) (marker, rest string) {
	if len(line) < 2 {
		return line, ""
	}
	return line[:2], strings.TrimPrefix(line[2:], " ")
}

// variable matches ${name}.
var variable = regexp.MustCompile(`\$\{([a-z_]+)\}`)

func expand(text string, variables map[string]string) (string, error) {
	var missing error
	text = variable.ReplaceAllStringFunc(text, func(match string) string {
		value, ok := variables[match[2:len(match)-1]]
		if !ok {
			missing = fmt.Errorf("variable %s has no value", match)
		}
		return value
	})
	return text, missing
}

// parseLine adds one line. An S: line directly after another is the next line of the same reply.
func (d *Dialogue) parseLine(number int, marker, text string, joinable bool) error {
	switch marker {
	case "C:":
		d.steps = append(d.steps, step{line: number, kind: sendLine, text: text})
	case "S:":
		next := step{line: number, kind: expectReply, text: text}
		if joinable {
			last := len(d.steps) - 1
			next = d.steps[last]
			next.text += "\n" + text
			d.steps = d.steps[:last]
		}
		next.pattern = compileWildcard(next.text)
		d.steps = append(d.steps, next)
	case "S~":
		pattern, err := regexp.Compile("(?s)" + text)
		if err != nil {
			return err
		}
		d.steps = append(d.steps, step{line: number, kind: expectReply, text: text, pattern: pattern})
	case "S!":
		if text != "closed" {
			return errors.New("want \"closed\" after the S! marker")
		}
		d.steps = append(d.steps, step{line: number, kind: expectClose, text: text})
	case "=>":
		d.Delivered = append(d.Delivered, strings.TrimSpace(text))
	default:
		return fmt.Errorf("line starts with %q, want #, C:, S:, S~, S! or =>", marker)
	}
	return nil
}

// compileWildcard compiles a pattern with "..." to a regular expression for a whole reply.
func compileWildcard(pattern string) *regexp.Regexp {
	parts := strings.Split(pattern, "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$")
}

// Run runs the dialogue with the server at an address. It returns the transcript even if it
// fails. The error names file and line and shows the expected and the actual reply.
func (d *Dialogue) Run(ctx context.Context, address string) (transcript string, err error) {
	session, err := DialSMTP(ctx, address)
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.name, err)
	}
	defer session.Close()
	var said strings.Builder
	for _, step := range d.steps {
		if err := step.run(session, &said); err != nil {
			return said.String(), fmt.Errorf("%s:%d: %w\nthe dialogue so far:\n%s", d.name, step.line, err,
				said.String())
		}
	}
	return said.String(), nil
}

// run runs one step.
func (s step) run(session *Session, said io.Writer) error {
	if s.kind == sendLine {
		fmt.Fprintf(said, "C: %s\n", s.text)
		return session.Send(s.text)
	}
	reply, err := session.Reply()
	for _, line := range reply.Lines {
		fmt.Fprintf(said, "S: %s\n", line)
	}
	if s.kind == expectClose {
		if err == io.EOF {
			return nil
		}
		return fmt.Errorf("the connection is still open\n  expected: closed\n  got:      %s (%v)", reply, err)
	}
	if err != nil {
		return fmt.Errorf("no reply: %w\n  expected: %s", err, s.text)
	}
	if !s.pattern.MatchString(reply.String()) {
		return fmt.Errorf("unexpected reply\n  expected: %s\n  got:      %s", s.text, reply)
	}
	return nil
}
