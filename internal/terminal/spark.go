package terminal

import "strings"

// sparks are the heights of a sparkline.
var sparks = []rune("▁▂▃▄▅▆▇█")

// Trail keeps the latest values for a sparkline. The zero value is empty.
type Trail []float64

// trailLength is more than the columns of a terminal.
const trailLength = 400

// Add appends a value and drops the oldest one of many.
func (t *Trail) Add(value float64) {
	*t = append(*t, value)
	*t = (*t)[max(0, len(*t)-trailLength):]
}

// Last returns the latest value, and zero if there is none.
func (t Trail) Last() float64 {
	if len(t) == 0 {
		return 0
	}
	return t[len(t)-1]
}

// sparkNote is the width of the note after a sparkline.
const sparkNote = 19

// Trail writes a label, a sparkline over the room of the page and a note, always in the same
// column.
func (p *Page) Trail(label string, t Trail, note string) {
	width := max(8, p.Room()-sparkNote)
	line := Spark(t, width)
	p.Line(label, line+strings.Repeat(" ", max(0, width-len([]rune(line)))+2)+note)
}

// Spark draws at most so many of the last values as a sparkline. Only zero has the lowest height.
func Spark(values []float64, most int) string {
	if len(values) > most {
		values = values[len(values)-most:]
	}
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		at := 0
		if v > 0 {
			at = 1 + int(v/top*float64(len(sparks)-2))
		}
		b.WriteRune(sparks[min(at, len(sparks)-1)])
	}
	return b.String()
}
