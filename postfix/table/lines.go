package table

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// keptOfLine limits the bytes kept of a logical line. It is far above any valid key.
const keptOfLine = 8 << 10

// space is the white space of Postfix, which is ASCII only.
const space = " \t\n\v\f\r"

// lines reads logical lines as postmap(1) has them: a line that begins with white space
// continues the one before; empty lines and those whose first character after white
// space is a # are not there, also in the middle of a logical line.
type lines struct {
	in     *bufio.Reader
	number int    // of the last physical line read
	text   []byte // of the logical line, as much as is kept
	first  int    // physical line on which it begins
	err    error
}

func newLines(r io.Reader) *lines {
	in := bufio.NewReaderSize(r, 64<<10)
	if head, _ := in.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) { // a byte order mark, as Windows writes it
		in.Discard(3)
	}
	return &lines{in: in}
}

// next reads one logical line into text. At the end it returns false; err is io.EOF or the
// error of the reader.
func (l *lines) next() bool {
	l.text, l.first = l.text[:0], 0
	for l.err == nil {
		if l.physical() && l.first == 0 {
			l.first = l.number
		}
		if l.first != 0 && !l.goesOn() {
			return true
		}
	}
	return false
}

// physical appends the next line of the file. It reports false for an empty line or a
// comment.
func (l *lines) physical() bool {
	before := len(l.text)
	for begun := false; ; begun = true {
		var piece []byte
		piece, l.err = l.in.ReadSlice('\n')
		if !begun && len(piece) > 0 {
			l.number++
		}
		l.text = append(l.text, piece[:min(len(piece), max(0, keptOfLine-len(l.text)))]...)
		if !errors.Is(l.err, bufio.ErrBufferFull) {
			break
		}
	}
	content := bytes.Trim(l.text[before:], space)
	if len(content) == 0 || content[0] == '#' {
		l.text = l.text[:before]
		return false
	}
	return true
}

// goesOn reports whether the next line may belong to this one.
func (l *lines) goesOn() bool {
	next, err := l.in.Peek(1)
	return err == nil && (next[0] == '#' || bytes.IndexByte([]byte(space), next[0]) >= 0)
}

// EachLine visits the logical lines of a text as postmap(1) has them, without comments and
// with white space as single blanks. A line beyond 8 KiB is cut off.
func EachLine(r io.Reader, visit func(line string)) error {
	l := newLines(r)
	for l.next() {
		visit(strings.Join(strings.Fields(string(l.text)), " "))
	}
	if l.err != io.EOF {
		return l.err
	}
	return nil
}
