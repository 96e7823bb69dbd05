package terminal

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// narrowest is the smallest width to which text is wrapped. On a narrower terminal the caller
// cuts lines.
const narrowest = 20

// Width returns the number of columns of a text. Escape sequences of colours have none.
func Width(s string) int { return ansi.StringWidth(s) }

// Cut returns the beginning of a text that fits into a number of columns. A colour that starts
// in it also ends in it.
func Cut(s string, columns int) string { return ansi.Truncate(s, columns, "") }

// Wrap breaks a text between words into lines of at most so many columns. A longer word is
// broken too, and a hyphen is not the end of a word, so options of commands stay whole. Text is
// not wrapped to less than 20 columns.
func Wrap(s string, columns int) []string {
	if columns < narrowest || Width(s) <= columns {
		return []string{s}
	}
	var lines []string
	line := ""
	for word := range strings.SplitSeq(s, " ") {
		if line != "" && Width(line)+1+Width(word) > columns {
			lines, line = append(lines, line), ""
		}
		for Width(word) > columns {
			head := ansi.Cut(word, 0, columns)
			lines, word = append(lines, head), ansi.TruncateLeft(word, Width(head), "")
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return eachColoured(append(lines, line))
}

// eachColoured ends a colour with each line and starts it again with the next, because a line
// may be shown without the one before it.
func eachColoured(lines []string) []string {
	open := ""
	for i, line := range lines {
		begin := open
		for at := 0; at < len(line); {
			n := colour(line[at:])
			switch {
			case n > 0 && line[at:at+n] == colourOff:
				open = ""
			case n > 0:
				open = line[at : at+n]
			}
			at += max(1, n)
		}
		if lines[i] = begin + line; open != "" {
			lines[i] += colourOff
		}
	}
	return lines
}

// colourOff ends colours.
const colourOff = "\x1b[0m"

// colour returns the length of the escape sequence at the beginning of a text; zero for none.
func colour(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	return strings.IndexByte(s, 'm') + 1
}
