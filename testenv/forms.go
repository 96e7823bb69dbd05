package testenv

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Form is one way to write a recipient, and what becomes of it:
//
//	<Jane."Doe"@Corp.Example>	jane.doe@corp.example	jane.doe@corp.example
//
// The columns of a line stand between tabs. {U+0301} stands for that character, where
// it would not be seen. Empty lines, and those that begin with "# ", are nothing.
type Form struct {
	Line     int
	Argument string // what the client sends behind RCPT TO:, in a session with SMTPUTF8
	// Macro is what Postfix makes of it, its {rcpt_addr}; empty, written -: it refuses
	// the command before a milter is asked.
	Macro string
	// Canonical is what we make of that, where Postfix folded a domain into another
	// together with Argument; empty, written -: not readable.
	Canonical string
	// Alone is what we make of Argument without a macro. The column is left out where it
	// is the same as Canonical.
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

// codePoint finds a character that is written by its number.
var codePoint = regexp.MustCompile(`\{U\+[0-9A-F]{4,6}\}`)

func decodeCodePoint(written string) string {
	number, err := strconv.ParseUint(written[3:len(written)-1], 16, 21)
	if err != nil {
		return written
	}
	return string(rune(number))
}
