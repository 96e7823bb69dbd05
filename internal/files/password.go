package files

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Password returns the password that a file holds as its only line, in UTF-8. A byte order
// mark in front of it and the end of the line are not part of it; all else is, spaces too. A
// file that cannot be meant as a password is an error, because a bind with a wrong password
// counts towards the lockout of the account.
func Password(path string) ([]byte, error) { return onDisk.password(path) }

func (r reader) password(path string) ([]byte, error) {
	data, err := r.read(path, "password", MaxPassword)
	if err != nil {
		return nil, err
	}
	line := Line(data)
	if fault := faultOf(data, line, path); fault != "" {
		return nil, fmt.Errorf("the password file %s %s", path, fault)
	}
	return line, nil
}

// byteOrderMark begins a text file that an editor of Windows wrote in UTF-8.
var byteOrderMark = []byte("\ufeff")

// Line returns text without a byte order mark in front and without the end of its last line.
func Line(data []byte) []byte {
	return bytes.TrimRight(bytes.TrimPrefix(data, byteOrderMark), "\r\n")
}

// faultOf returns why the content of a password file cannot be a password, and what to do;
// empty: it can.
func faultOf(data, line []byte, path string) string {
	if encoding := Encoding(data); encoding != "" {
		return WrongEncoding(encoding, path)
	}
	switch {
	case bytes.IndexByte(data, 0) >= 0:
		return "holds bytes of value zero, so it is no text; write the password into it, as its only line"
	case len(line) == 0:
		return "is empty; write the password into it, as its only line"
	case bytes.ContainsAny(line, "\r\n"):
		return "has more than one line; the password must be its only line"
	case !utf8.Valid(line):
		return fmt.Sprintf("is not in UTF-8; if it is in Windows-1252, convert it: %s", conversion("WINDOWS-1252", path))
	}
	if at := bytes.IndexFunc(line, isControl); at >= 0 {
		r, _ := utf8.DecodeRune(line[at:])
		return fmt.Sprintf("holds the control character %U; write the password into it again, as plain text", r)
	}
	return ""
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// marks begin text in an encoding other than UTF-8. The longer one comes first.
var marks = []struct{ encoding, mark string }{
	{"UTF-32", "\xff\xfe\x00\x00"}, {"UTF-32", "\x00\x00\xfe\xff"}, {"UTF-16", "\xff\xfe"}, {"UTF-16", "\xfe\xff"},
}

// Encoding returns the encoding of text that is not in UTF-8 and shows it: by a mark at its
// beginning, or because many bytes are zero and only every second one is, as in UTF-16 without
// a mark. Empty: there is no sign of one.
func Encoding(data []byte) string {
	for _, m := range marks {
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

// WrongEncoding says that a file is in an encoding other than UTF-8, with the command that
// converts it.
func WrongEncoding(encoding, path string) string {
	return fmt.Sprintf("is in %s, as PowerShell and Notepad write it; convert it to UTF-8: %s",
		strings.TrimRight(encoding, "BLE"), conversion(encoding, path))
}

// conversion is a command that converts a file to UTF-8 where it is, so that it keeps its owner
// and mode.
func conversion(from, path string) string {
	path = inShell(path)
	return fmt.Sprintf(`printf %%s "$(iconv -f %s -t UTF-8 %s)" >%s`, from, path, path)
}

// Doubts lists what is allowed in a password and rarely meant, as ends of a sentence about its
// file. They tell single characters of it by their code points, and those are no letters.
func Doubts(password string) []string {
	var doubts []string
	add := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...) + ", which counts as part of the password"; !slices.Contains(doubts, text) {
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
