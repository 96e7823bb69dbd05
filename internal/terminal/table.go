package terminal

import "strings"

// gap is the number of spaces between two columns of a table.
const gap = 3

// narrowestFirst is the smallest width of the first column of a narrowed table.
const narrowestFirst = 8

// Table writes rows in columns after an empty line. The first row has the titles; without
// another one nothing is written. The given columns hold numbers and are aligned right. If
// Narrow is set, the first column is cut until the table fits the page.
func (p *Page) Table(rows [][]string, numbers ...int) {
	if len(rows) < 2 {
		return
	}
	if p.Narrow {
		narrow(rows, p.Width)
	}
	p.WriteString("\n" + Align(rows, numbers...))
}

// Fits reports whether the rows of a table are within the width of the page.
func (p *Page) Fits(rows [][]string) bool {
	total := -gap
	for _, w := range widthsOf(rows) {
		total += gap + w
	}
	return p.Width <= 0 || total <= p.Width
}

// narrow cuts the first column of a table until the table fits the width.
func narrow(rows [][]string, width int) {
	widths := widthsOf(rows)
	others := 0
	for _, w := range widths[1:] {
		others += gap + w
	}
	room := max(width-others, narrowestFirst)
	for _, row := range rows {
		if Width(row[0]) > room {
			row[0] = Cut(row[0], room-1) + "…"
		}
	}
}

// Align returns rows in columns, a line each. The given columns are aligned right.
func Align(rows [][]string, right ...int) string {
	widths := widthsOf(rows)
	alignRight := make([]bool, len(widths))
	for _, column := range right {
		alignRight[column] = true
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for column, cell := range row {
			pad := strings.Repeat(" ", widths[column]-Width(cell))
			if alignRight[column] {
				cell, pad = pad+cell, ""
			}
			line += cell + pad + strings.Repeat(" ", gap)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// widthsOf returns the width of each column.
func widthsOf(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for column, cell := range row {
			if column == len(widths) {
				widths = append(widths, 0)
			}
			widths[column] = max(widths[column], Width(cell))
		}
	}
	return widths
}
