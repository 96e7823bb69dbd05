package files

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"rcpt-milter/internal/text"
)

// Password returns the password in a file: its only line, in UTF-8. A byte order mark before it
// and the line end are not part of it; everything else is, including spaces. Content that cannot
// be a password is an error, because a bind with a wrong password counts towards the lockout of
// the account.
func Password(path string) ([]byte, error) { return onDisk.password(path) }

func (r reader) password(path string) ([]byte, error) {
	data, err := r.read(path, "password", MaxPassword)
	if err != nil {
		return nil, err
	}
	line := Line(data)
	if fault := contentProblem(data, line, path); fault != "" {
		return nil, fmt.Errorf("the password file %s %s", path, fault)
	}
	return line, nil
}

// byteOrderMark begins a UTF-8 text file of many Windows editors.
var byteOrderMark = []byte("\ufeff")

// Line returns text without the byte order mark at its beginning and the line end at its end.
func Line(data []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(data, byteOrderMark), "\r\n")
}

// contentProblem explains why the content of a password file cannot be a password, and states the
// remedy; empty if it can.
func contentProblem(data, line []byte, path string) string {
	if encoding := Encoding(data); encoding != "" {
		return WrongEncoding(encoding, path)
	}
	switch {
	case bytes.IndexByte(data, 0) >= 0:
		return "holds bytes of value zero, so it is not text; write the password into it, as its only line"
	case len(line) == 0:
		return "is empty; write the password into it, as its only line"
	case bytes.ContainsAny(line, "\r\n"):
		return "has more than one line; the password must be its only line"
	case !utf8.Valid(line):
		return fmt.Sprintf("is not in UTF-8; if it is in Windows-1252, convert it: %s",
			convertCommand("WINDOWS-1252", path))
	}
	if at := bytes.IndexFunc(line, isControl); at >= 0 {
		r, _ := utf8.DecodeRune(line[at:])
		return fmt.Sprintf("holds the control character %U; write the password into it again, as plain text", r)
	}
	return ""
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// byteOrderMarks begin text in an encoding other than UTF-8; longer marks come first.
var byteOrderMarks = []struct{ encoding, mark string }{
	{"UTF-32", "\xff\xfe\x00\x00"}, {"UTF-32", "\x00\x00\xfe\xff"}, {"UTF-16", "\xff\xfe"}, {"UTF-16", "\xfe\xff"},
}

// Encoding detects text in an encoding other than UTF-8: by a mark at its beginning, or by many
// zero bytes that are all at even or all at odd places, as in UTF-16 without a mark. Empty means
// that it found neither.
func Encoding(data []byte) string {
	for _, m := range byteOrderMarks {
		if bytes.HasPrefix(data, []byte(m.mark)) {
			return m.encoding
		}
	}
	var zeros [2]int // at even and at odd places
	for i, b := range data {
		if b == 0 {
			zeros[i%2]++
		}
	}
	few := len(data) / 4
	switch {
	case len(data)%2 != 0 || zeros[0] > 0 && zeros[1] > 0:
		return ""
	case zeros[1] > few:
		return "UTF-16LE"
	case zeros[0] > few:
		return "UTF-16BE"
	}
	return ""
}

// WrongEncoding explains that a file is not in UTF-8, and gives the command that converts it.
func WrongEncoding(encoding, path string) string {
	return fmt.Sprintf("is in %s, as PowerShell and Notepad write it; convert it to UTF-8: %s",
		strings.TrimRight(encoding, "BLE"), convertCommand(encoding, path))
}

// convertCommand returns a command that converts a file to UTF-8 in place, which keeps its owner and
// mode.
func convertCommand(from, path string) string {
	path = text.ShellQuoted(path)
	return fmt.Sprintf(`printf %%s "$(iconv -f %s -t UTF-8 %s)" >%s`, from, path, path)
}

// Doubts returns warnings about a password that is allowed but probably a mistake. Each one is the
// end of a sentence about its file. They show single characters by code point, never letters.
func Doubts(password string) []string {
	var doubts []string
	add := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...) + ", which counts as part of the password"; !slices.Contains(doubts,
			text) {
			doubts = append(doubts, text)
		}
	}
	if strings.HasPrefix(password, " ") || strings.HasSuffix(password, " ") {
		add("begins or ends with a space")
	}
	for _, r := range password {
		switch {
		case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			add("holds the invisible character %U", r)
		case unicode.IsSpace(r) && r != ' ':
			add("holds the white space %U", r)
		}
	}
	if n := len(password); n > 2 && password[0] == password[n-1] && strings.ContainsRune(`"'`, rune(password[0])) {
		add("stands in quotation marks")
	}
	return doubts
}
