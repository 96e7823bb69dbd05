package terminal

import (
	"bytes"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	const words = "one two three four five six seven"
	for _, c := range []struct {
		name  string
		width int
		want  string
	}{
		{"no terminal", 0, "  label               " + words + "\n"},
		{"wide", 80, "  label               " + words + "\n"},
		{"wrapped", 53, "  label               one two three four five six\n                      seven\n"},
		{"stacked", 30, "  label\n    one two three four five\n    six seven\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &Page{Width: c.width}
			p.Line("label", words)
			if got := p.String(); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestPaint(t *testing.T) {
	if got := (&Page{}).Warn("careful"); got != "careful" {
		t.Errorf("without colours: %q", got)
	}
	if got := (&Page{Colours: true}).Warn("careful"); got != "\x1b[33mcareful\x1b[0m" {
		t.Errorf("with colours: %q", got)
	}
}

// TestTable: columns are as wide as the terminal shows them.
func TestTable(t *testing.T) {
	rows := func() [][]string {
		return [][]string{
			{"Name", "Number", "Note"},
			{"日本語", "7", "wide"},
			{"e\u0301tude", "12,345", "combining"},
			{"\x1b[33mlate\x1b[0m", "", ""},
			{"a-rather-long-name", "1", "x"},
		}
	}
	for _, c := range []struct {
		name string
		page Page
		want string
	}{
		{"as wide as it is", Page{Width: 20}, `
Name                 Number   Note
日本語                    7   wide
e` + "\u0301" + `tude                12,345   combining
` + "\x1b[33mlate\x1b[0m" + `
a-rather-long-name        1   x
`},
		{"narrowed", Page{Width: 31, Narrow: true}, `
Name         Number   Note
日本語            7   wide
e` + "\u0301" + `tude        12,345   combining
` + "\x1b[33mlate\x1b[0m" + `
a-rather-…        1   x
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &c.page
			p.Table(rows(), 1)
			if got := p.String(); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
	for width, want := range map[int]bool{0: true, 20: false, 38: false, 39: true} {
		if got := (&Page{Width: width}).Fits(rows()); got != want {
			t.Errorf("Fits in %d columns: %t", width, got)
		}
	}
	var p Page
	if p.Table(rows()[:1]); p.Len() > 0 {
		t.Errorf("a table without rows: %q", p.String())
	}
}

func TestProgress(t *testing.T) {
	for _, shown := range []bool{true, false} {
		var out bytes.Buffer
		p := Progress{Out: &out, Shown: shown}
		p.Clear()
		p.Draw("half")
		p.Draw("done")
		p.Clear()
		p.Clear()
		want := ""
		if shown {
			want = "half\r\x1b[Kdone\r\x1b[K"
		}
		if got := out.String(); got != want {
			t.Errorf("shown %v: %q, want %q", shown, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		seen, expected int64
		want           int // full columns; -1 for no bar
	}{{0, 0, -1}, {5, 0, -1}, {0, 100, 0}, {50, 100, 10}, {99, 100, 19}, {100, 100, 20}, {300, 100, 20}} {
		got := Bar(c.seen, c.expected)
		if c.want < 0 && got != "" ||
			c.want >= 0 && (strings.Count(got, "█") != c.want || strings.Count(got, "░") != barWidth-c.want) {
			t.Errorf("Bar(%d, %d) = %q, want %d", c.seen, c.expected, got, c.want)
		}
	}
}

func TestNotTerminal(t *testing.T) {
	if w := new(bytes.Buffer); IsTerminal(w) || IsScreen(w) || HasColours(w) || Columns(w) != 0 {
		t.Error("a buffer is a terminal")
	}
}
