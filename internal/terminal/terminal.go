// Package terminal prints on terminals: text in lines and columns of a width, tables, progress,
// sparklines and full screens. Widths are display columns, as the terminal counts them.
package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// IsScreen reports whether w is a terminal that can move its cursor.
func IsScreen(w io.Writer) bool { return IsTerminal(w) && os.Getenv("TERM") != "dumb" }

// HasColours reports whether w is a terminal whose user has not switched colours off
// (no-color.org).
func HasColours(w io.Writer) bool { return IsScreen(w) && os.Getenv("NO_COLOR") == "" }

// Columns returns the width of the terminal w, and zero if w is not a terminal.
func Columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			return columns
		}
	}
	return 0
}
