package terminal

import (
	"io"
	"strings"
)

// Page is text of labelled lines and tables.
type Page struct {
	strings.Builder
	Colours bool
	Width   int  // of the terminal in columns; zero means no limit
	Narrow  bool // tables are narrowed to Width
}

// NewPage returns a page for w, which may be a terminal.
func NewPage(w io.Writer) *Page { return &Page{Colours: HasColours(w), Width: Columns(w)} }

const (
	labelWidth = 20
	// stackedBelow is the width beside the labels below which a text that does not fit goes
	// under its label.
	stackedBelow = 30
)

// Line writes a label and its text, in as many lines as the text takes.
func (p *Page) Line(label, s string) {
	if p.stacked() && (label == "" || Width(s) > p.Width-labelWidth-2) {
		if label != "" {
			p.WriteString("  " + label + "\n")
		}
		for _, part := range Wrap(s, p.Room()) {
			p.WriteString("    " + part + "\n")
		}
		return
	}
	for _, part := range Wrap(s, p.Room()) {
		p.WriteString("  " + label + strings.Repeat(" ", max(1, labelWidth-Width(label))))
		p.WriteString(part + "\n")
		label = ""
	}
}

func (p *Page) stacked() bool { return p.Width > 0 && p.Width-labelWidth-2 < stackedBelow }

// Room returns the columns for the text of a line. Zero or less means no limit.
func (p *Page) Room() int {
	if p.stacked() {
		return p.Width - 4
	}
	return p.Width - labelWidth - 2
}

// Title writes a line without a label.
func (p *Page) Title(s string) { p.WriteString(strings.Join(Wrap(s, p.Width), "\n") + "\n") }

// More continues the line above.
func (p *Page) More(s string) { p.Line("", s) }

// Warn returns a text in the colour of warnings.
func (p *Page) Warn(s string) string { return p.Paint(s, Yellow) }

// Colours of Paint.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Paint returns a text in a colour, if the page has colours.
func (p *Page) Paint(s, colour string) string {
	if !p.Colours {
		return s
	}
	return "\x1b[" + colour + "m" + s + colourOff
}
