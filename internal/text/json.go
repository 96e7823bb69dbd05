package text

import (
	"encoding/json"
	"io"
	"strings"
)

// WriteJSON writes a value as indented JSON. It escapes what does not print, because the reader
// may be a terminal.
func WriteJSON(w io.Writer, value any) error {
	encoded, err := EncodeJSON(value, "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, encoded)
	return err
}

// EncodeJSON returns JSON that ends with a newline. Without an indent it has no other one.
func EncodeJSON(value any, indent string) (string, error) {
	var encoded strings.Builder
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return PrintableJSON(encoded.String()), nil
}

// JSONRows writes a JSON array to W, one row a line, as the rows arrive. It writes nothing
// before the first row or End.
type JSONRows struct {
	W      io.Writer
	Before string // is written before the array, such as the beginning of an object
	rows   int
}

// Add writes a row.
func (j *JSONRows) Add(value any) error {
	encoded, err := EncodeJSON(value, "")
	if err != nil {
		return err
	}
	between := ",\n"
	if j.rows == 0 {
		between = j.Before + "[\n"
	}
	j.rows++
	_, err = io.WriteString(j.W, between+strings.TrimSuffix(encoded, "\n"))
	return err
}

// End closes the array.
func (j *JSONRows) End() error {
	end := "\n]\n"
	if j.rows == 0 {
		end = j.Before + "[]\n"
	}
	_, err := io.WriteString(j.W, end)
	return err
}
