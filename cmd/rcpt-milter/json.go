package main

import (
	"encoding/json"
	"io"
	"strings"

	"rcpt-milter/internal/text"
)

// printJSON writes a value as JSON. It escapes what does not print, because the reader may be a
// terminal.
func printJSON(w io.Writer, value any) error {
	text, err := encodeJSON(value, "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// encodeJSON returns JSON that ends with a newline. Without an indent it has no other one.
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

// jsonRows writes a JSON array, one row a line, as the rows arrive.
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
