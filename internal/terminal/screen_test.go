package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// drawn returns what a screen of a size shows of lines.
func drawn(s *Screen, lines []string) []string {
	out := s.Out.(*bytes.Buffer)
	out.Reset()
	s.Draw(lines)
	shown := strings.NewReplacer(home, "", eraseLine, "", eraseBelow, "", "\r", "").Replace(out.String())
	return strings.Split(shown, "\n")
}

func numbered(n int) []string {
	lines := []string{"head"}
	for i := range n {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	return lines
}

// TestDrawFits: a screen of any size gets no more rows and columns than it has.
func TestDrawFits(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {20, 3}, {6, 10}, {1, 2}, {5, 1}} {
		s := &Screen{Out: &bytes.Buffer{}, Size: func() (int, int) { return size[0], size[1] }}
		lines := drawn(s, numbered(30))
		if len(lines) > max(size[1], 2) {
			t.Errorf("%d rows on a screen of %v", len(lines), size)
		}
		for _, line := range lines {
			if Width(line) > size[0] {
				t.Errorf("%q on a screen of %v", line, size)
			}
		}
	}
}

func TestScroll(t *testing.T) {
	s := &Screen{Out: &bytes.Buffer{}, Size: func() (int, int) { return 80, 10 }}
	lines := numbered(30)
	if top := drawn(s, lines); top[0] != "head" || top[1] != "line 0" || top[9] != "  … 22 more lines, arrows scroll" {
		t.Errorf("at the top: %q", top)
	}
	for _, key := range []byte("\x1b[Bjjj ") {
		if !s.Key(key) {
			t.Errorf("key %q ends the program", key)
		}
	}
	if down := drawn(s, lines); s.scroll != 9 || down[0] != "head" || down[1] != "line 9" {
		t.Errorf("scrolled to %d: %q", s.scroll, down)
	}
	s.scroll = 10_000
	if end := drawn(s, lines); s.scroll != 22 || end[8] != "line 29" || end[9] != "" {
		t.Errorf("scrolled to %d: %q", s.scroll, end)
	}
	for range 1000 {
		s.Key('k')
	}
	if s.scroll != 0 {
		t.Errorf("scrolled up to %d", s.scroll)
	}
	for _, key := range []byte{'q', 'Q', 3, 4} {
		if s.Key(key) {
			t.Errorf("key %d does not end the program", key)
		}
	}
}

func TestEnterLeave(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{Out: &out}
	s.Enter()
	s.Leave()
	if out.String() != enterScreen+leaveScreen {
		t.Errorf("written: %q", out.String())
	}
}
