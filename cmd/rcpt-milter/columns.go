package main

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// narrowest is how few columns text is still wrapped to; below it lines are cut by
// whoever shows them.
const narrowest = 20

// wrap breaks printed text into lines of so many columns, between words, or within one
// that is too long for a line. Fewer columns than make sense leave it as it is.
func wrap(text string, columns int) []string {
	if columns < narrowest || columnsIn(text) <= columns {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && columnsIn(line)+1+columnsIn(word) > columns {
			lines, line = append(lines, line), ""
		}
		for columnsIn(word) > columns {
			head := word[:reach(word, columns)]
			lines, word = append(lines, head), word[len(head):]
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return eachColoured(append(lines, line))
}

// eachColoured ends colours with each line and begins them anew with the next, because a
// line may be shown without the one before it.
func eachColoured(lines []string) []string {
	open := ""
	for i, line := range lines {
		begin := open
		for at := 0; at < len(line); {
			n := colour(line[at:])
			switch {
			case n > 0 && line[at:at+n] == plain:
				open = ""
			case n > 0:
				open = line[at : at+n]
			}
			at += max(1, n)
		}
		if lines[i] = begin + line; open != "" {
			lines[i] += plain
		}
	}
	return lines
}

// plain ends colours.
const plain = "\x1b[0m"

// cut shortens a line of printed text to so many columns. Colours are ended where the
// text is cut.
func cut(line string, columns int) string {
	at := reach(line, columns)
	if at < len(line) && strings.Contains(line[:at], "\x1b[") {
		return line[:at] + plain
	}
	return line[:at]
}

// reach is how many octets of a text fit so many columns. Colours take none.
func reach(text string, columns int) int {
	used := 0
	for at := 0; at < len(text); {
		if n := colour(text[at:]); n > 0 {
			at += n
			continue
		}
		r, size := utf8.DecodeRuneInString(text[at:])
		if used += columnsOfRune(r); used > columns {
			return at
		}
		at += size
	}
	return len(text)
}

// columnsIn is how many columns a text takes.
func columnsIn(text string) (used int) {
	for at := 0; at < len(text); {
		if n := colour(text[at:]); n > 0 {
			at += n
			continue
		}
		r, size := utf8.DecodeRuneInString(text[at:])
		used += columnsOfRune(r)
		at += size
	}
	return used
}

// colour is the length of the escape sequence that a text begins with; 0: with none.
func colour(text string) int {
	if !strings.HasPrefix(text, "\x1b[") {
		return 0
	}
	return strings.IndexByte(text, 'm') + 1
}

func columnsOfRune(r rune) int {
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}
