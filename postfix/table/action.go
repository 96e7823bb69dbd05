package table

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// rejecting matches values that are actions of access(5) to reject, defer or discard mail.
var rejecting = regexp.MustCompile(`^((?i:REJECT|DISCARD|DEFER|DEFER_IF_PERMIT|DEFER_IF_REJECT)|[45][0-9]{2})` +
	`(?:[ \t\n\v\f\r]|$)`)

// Actions returns the first lines whose value is an action of access(5) to reject, defer or discard mail, and the
// number of all. Such lines count like others, because the value has no meaning. A table from a copy on disk has
// none.
func (t *Table) Actions() (first []Problem, all int) { return t.actions.first, t.actions.all }

// Literal returns the first lines whose key was probably not intended as it reads (see address.CheckLiteral), and the
// number of all. Such lines count as they read. A table from a copy on disk has none.
func (t *Table) Literal() (first []Problem, all int) { return t.literal.first, t.literal.all }

// Suspicious returns the first lines that count, but probably not as they were intended, and the number of all of
// them: those of Literal and Actions, in the order of the file.
func (t *Table) Suspicious() (first []Problem, all int) {
	first = slices.Concat(t.literal.first, t.actions.first)
	slices.SortStableFunc(first, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return first, t.literal.all + t.actions.all
}

// noteAction records a line if its value is such an action.
func (t *Table) noteAction(line int, key string, value []byte) {
	value = bytes.TrimLeft(value, space)
	if len(value) == 0 || strings.IndexByte("RrDd45", value[0]) < 0 { // most lines of a large table
		return
	}
	action := rejecting.FindSubmatch(value)
	if action == nil {
		return
	}
	t.actions.add(line, fmt.Sprintf("%s is accepted, although its value %q is an action of access(5): values have no "+
		"meaning here; remove the line", shown([]byte(key)), action[1]))
}
