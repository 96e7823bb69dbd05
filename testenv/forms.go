package testenv

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Form is one way to write a recipient, and its results:
//
//	<Jane."Doe"@Corp.Example>	jane.doe@corp.example	jane.doe@corp.example
//
// Tabs separate the columns of a line. {U+0301} stands for an invisible character. Empty lines,
// and lines that begin with "# ", are ignored.
type Form struct {
	Line     int
	Argument string // the client's argument of RCPT TO:, in a session with SMTPUTF8
	// Macro is Postfix's {rcpt_addr} for it. Empty, written "-", means that Postfix rejects the
	// command before it queries a milter.
	Macro string
	// Canonical is the daemon's canonical form of Macro, if Postfix folded a domain into another
	// together with Argument. Empty, written "-", means unreadable.
	Canonical string
	// Alone is the daemon's canonical form of Argument without a macro. The column is omitted if
	// it equals Canonical.
	Alone string
}

// ReadForms reads a file of forms.
func ReadForms(path string) ([]Form, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("forms: %w", err)
	}
	var forms []Form
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		columns := strings.Split(line, "\t")
		if len(columns) == 3 {
			columns = append(columns, columns[2])
		}
		if len(columns) != 4 {
			return nil, fmt.Errorf("%s:%d: expected 3 or 4 columns between tabs, got %d", path, number, len(columns))
		}
		for i, c := range columns {
			if columns[i] = codePoint.ReplaceAllStringFunc(c, decodeCodePoint); c == "-" {
				columns[i] = ""
			}
		}
		forms = append(forms, Form{number, columns[0], columns[1], columns[2], columns[3]})
	}
	return forms, nil
}

// codePoint matches a character written as its number.
var codePoint = regexp.MustCompile(`\{U\+[0-9A-F]{4,6}\}`)

func decodeCodePoint(written string) string {
	number, err := strconv.ParseUint(written[3:len(written)-1], 16, 21)
	if err != nil {
		return written
	}
	return string(rune(number))
}
