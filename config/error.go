package config

import (
	"errors"
	"fmt"
	"sort"
)

// maxErrors is how many errors of one file are reported; past them, what is wrong is
// rarely what the later ones say.
const maxErrors = 20

// ErrMissing is what an Error wraps that is about a file or group which does not exist.
var ErrMissing = errors.New("named in the configuration and does not exist")

// Error is one thing wrong in a configuration file.
type Error struct {
	File         string // as given to Load or Parse
	Line, Column int    // from 1, the column in characters; zero: of the file as a whole
	Text         string // what is wrong and what was expected, one sentence without a full stop
	Kind         error  // ErrMissing or nil
}

// Unwrap gives Kind.
func (e *Error) Unwrap() error { return e.Kind }

// Error prints file:line:column: text, as compilers do.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// position is a place in the file; zero: none.
type position struct{ line, column int }

// reader gathers what is found while one file is read.
type reader struct {
	file     string
	errs     []*Error
	warnings []error
	at       map[string]position
	written  map[string]string // items of lists as they stand in the file, by path
}

// warnAt notes what is valid and hardly meant.
func (r *reader) warnAt(p position, format string, args ...any) {
	r.warnings = append(r.warnings, &Error{File: r.file, Line: p.line, Column: p.column, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) failAt(p position, format string, args ...any) {
	r.add(p, nil, fmt.Sprintf(format, args...))
}

func (r *reader) add(p position, kind error, text string) {
	r.errs = append(r.errs, &Error{r.file, p.line, p.column, text, kind})
}

// err joins what was found in the order of the file; nil where nothing was.
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
