package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"rcpt-milter/internal/text"
)

// Control sequences of a Screen.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// Screen shows lines on a whole terminal. The first line stays while the others scroll.
type Screen struct {
	Out    io.Writer
	Size   func() (columns, rows int)
	scroll int
}

// NewScreen returns a screen on a terminal.
func NewScreen(f *os.File) *Screen {
	return &Screen{Out: f, Size: func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80, 24
		}
		return columns, rows
	}}
}

// Enter switches to the alternate screen, and Leave back.
func (s *Screen) Enter() { io.WriteString(s.Out, enterScreen) }

// Leave restores what the terminal showed before Enter.
func (s *Screen) Leave() { io.WriteString(s.Out, leaveScreen) }

// Key handles a byte from the keyboard, and returns false for those that end the program: q,
// Ctrl-C and Ctrl-D. Arrow keys arrive as ESC [ A and ESC [ B.
func (s *Screen) Key(key byte) bool {
	_, rows := s.Size()
	switch key {
	case 'q', 'Q', 3, 4:
		return false
	case 'j', 'B':
		s.scroll++
	case 'k', 'A':
		s.scroll--
	case ' ':
		s.scroll += rows / 2
	}
	s.scroll = max(0, s.scroll)
	return true
}

// Draw writes all lines over those that are there. It does not clear the screen first, so the
// screen does not flicker.
func (s *Screen) Draw(lines []string) {
	columns, rows := s.Size()
	head := lines[:min(1, len(lines))]
	body := lines[len(head):]
	room := max(0, rows-len(head)-1)
	s.scroll = max(0, min(s.scroll, len(body)-room))
	shown := body[s.scroll:min(len(body), s.scroll+room)]
	var b strings.Builder
	b.WriteString(home)
	for _, line := range append(append([]string{}, head...), shown...) {
		line = Cut(line, columns)
		if Width(line) < columns { // after the last column the terminal would erase that column
			line += eraseLine
		}
		b.WriteString(line + "\r\n")
	}
	b.WriteString(eraseBelow)
	if hidden := len(body) - s.scroll - len(shown); hidden > 0 {
		more := text.Count(hidden, "more line", "more lines")
		b.WriteString(Cut(fmt.Sprintf("  … %s, arrows scroll", more), columns))
	}
	io.WriteString(s.Out, b.String())
}

// ReadKeys switches the keyboard to raw mode and returns the bytes that are typed, until the end
// of the process; restore undoes the switch. Without a terminal no byte arrives.
func ReadKeys(f *os.File) (keys <-chan byte, restore func()) {
	c := make(chan byte)
	before, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return c, func() {}
	}
	go func() {
		var b [1]byte
		for {
			if n, err := f.Read(b[:]); err != nil || n == 0 {
				return
			}
			c <- b[0]
		}
	}()
	return c, func() { term.Restore(int(f.Fd()), before) }
}
