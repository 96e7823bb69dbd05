package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"rcpt-milter/internal/text"
)

// isTerminal reports whether somebody looks at what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}

// isScreen reports whether w is a terminal on which what is written can be taken back.
func isScreen(w io.Writer) bool { return isTerminal(w) && os.Getenv("TERM") != "dumb" }

// colours reports whether w is a terminal whose user has nothing against them
// (no-color.org).
func colours(w io.Writer) bool {
	return isScreen(w) && os.Getenv("NO_COLOR") == ""
}

// columnsOf is how wide the terminal is that w leads to; 0: it leads to none.
func columnsOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			return columns
		}
	}
	return 0
}

// printJSON writes value for people and tools. What is not printable is escaped as
// JSON has it, since a terminal may be what reads it.
func printJSON(w io.Writer, value any) error {
	text, err := encodeJSON(value, "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// encodeJSON ends with a newline; without an indent that is the only one.
func encodeJSON(value any, indent string) (string, error) {
	var encoded strings.Builder
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return text.PrintableJSON(encoded.String()), nil
}

// jsonRows writes a JSON array row by row, each on a line of its own: rows may be many.
type jsonRows struct {
	w    io.Writer
	rows int
}

func (j *jsonRows) add(value any) error {
	text, err := encodeJSON(value, "")
	if err != nil {
		return err
	}
	between := ",\n"
	if j.rows == 0 {
		between = "[\n"
	}
	j.rows++
	_, err = io.WriteString(j.w, between+strings.TrimSuffix(text, "\n"))
	return err
}

// end closes the array.
func (j *jsonRows) end() error {
	text := "\n]\n"
	if j.rows == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(j.w, text)
	return err
}
