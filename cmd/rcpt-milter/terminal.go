package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
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

// printable makes text from the network or a directory safe to show: whatever could
// move the cursor, colour, reorder or hide other text is shown as an escape sequence.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
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
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	if !strings.ContainsFunc(text.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		return text.String(), nil
	}
	var b strings.Builder
	for _, r := range text.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String(), nil
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

// inWords is a duration as people say it, in its largest unit that is not too coarse.
func inWords(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		if n := int64(d / unit.d); n >= 2 || n == 1 && unit.d == time.Second {
			return counted(n, unit.name, unit.name+"s")
		}
	}
	return "less than a second"
}

// ago says how long before now t was, or that it is still to come.
func ago(now, t time.Time) string {
	if t.After(now) {
		return "in " + inWords(t.Sub(now))
	}
	return inWords(now.Sub(t)) + " ago"
}

// counted is "1 object" or "1,234 objects".
func counted[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(int64(n)) + " " + many
}

// grouped is n with a comma at every thousand.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
