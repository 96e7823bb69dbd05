package config

import (
	"errors"
	"fmt"
	"sort"
)

// maxErrors limits the errors reported for one file. Later ones are often consequences of
// earlier ones.
const maxErrors = 20

// ErrMissing is wrapped by an Error about a file or group that does not exist.
var ErrMissing = errors.New("configured file or group does not exist")

// Error is one error in a configuration file.
type Error struct {
	File         string // as given to Load or Parse
	Line, Column int    // from 1, the column in characters; zero means the whole file
	Text         string // the fact and the remedy, without a full stop
	Kind         error  // ErrMissing or nil
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

// Error returns file:line:column: text, as compilers print it.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// position is a position in the file. The zero value means none.
type position struct{ line, column int }

// reader collects errors and positions while a file is read.
type reader struct {
	file     string
	errs     []*Error
	warnings []error
	at       map[string]position
	lines    []string          // of the file, each to the end of the file
	written  map[string]string // items of lists as in the file, by path
}

// warnAt records suspicious but valid configuration.
func (r *reader) warnAt(p position, format string, args ...any) {
	r.warnings = append(r.warnings, &Error{File: r.file, Line: p.line, Column: p.column,
		Text: fmt.Sprintf(format, args...)})
}

func (r *reader) failAt(p position, format string, args ...any) {
	r.add(p, nil, fmt.Sprintf(format, args...))
}

func (r *reader) add(p position, kind error, text string) {
	r.errs = append(r.errs, &Error{r.file, p.line, p.column, text, kind})
}

// err joins the errors in the order of the file. It returns nil if there are none.
func (r *reader) err() error {
	sort.SliceStable(r.errs, func(i, j int) bool {
		a, b := r.errs[i], r.errs[j]
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	var all []error
	for i, e := range r.errs {
		if i == maxErrors {
			e = &Error{File: r.file, Text: fmt.Sprintf("%d more errors", len(r.errs)-i)}
			all = append(all, e)
			break
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}
