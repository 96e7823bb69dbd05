package main

import (
	"encoding/json"
	"io"
	"strings"

	"rcpt-milter/internal/text"
)

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
