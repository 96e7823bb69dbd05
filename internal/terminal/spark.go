package terminal

import "strings"

// sparks are the heights of a sparkline.
var sparks = []rune("▁▂▃▄▅▆▇█")

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
