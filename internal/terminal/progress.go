package terminal

import (
	"io"
	"strings"
)

// margin is the room that Progress leaves at the end of the line, for the ^C that the terminal
// shows.
const margin = 3

// Progress is a line on a terminal that is replaced or removed. The zero value of Shown writes
// nothing.
type Progress struct {
	Out   io.Writer
	Shown bool
	dirty bool
}

// Draw replaces the line. It is cut to the width of the terminal, because a longer one could not
// be removed.
func (p *Progress) Draw(line string) {
	p.Clear()
	if !p.Shown || line == "" {
		return
	}
	if columns := Columns(p.Out); columns > 0 {
		line = Cut(line, columns-margin)
	}
	io.WriteString(p.Out, line)
	p.dirty = true
}

// Clear removes the line.
func (p *Progress) Clear() {
	if p.dirty {
		io.WriteString(p.Out, "\r"+eraseLine)
		p.dirty = false
	}
}

// barWidth is the number of columns of a bar.
const barWidth = 20

// Bar draws a share of an expected total. More than the total is a full bar. Without a total
// there is no bar.
func Bar(seen, expected int64) string {
	if expected <= 0 {
		return ""
	}
	full := int(min(seen, expected) * barWidth / expected)
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}
