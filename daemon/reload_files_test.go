package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	tables "rcpt-milter/postfix/table"
)

// TestFileChanges checks what a reload says of accept files.
func TestFileChanges(t *testing.T) {
	file := func(name string, entries int) tables.FileStatus {
		return tables.FileStatus{File: name, Entries: entries}
	}
	for _, c := range []struct {
		name          string
		before, after []tables.FileStatus
		want          []string
	}{
		{"no file", nil, nil, nil},
		{"the same", []tables.FileStatus{file("/a", 2)}, []tables.FileStatus{file("/a", 2)}, nil},
		{"fewer, more", []tables.FileStatus{file("/a", 1520), file("/b", 1)}, []tables.FileStatus{file("/b", 2),
			file("/a", 1)}, []string{"/b has 2 entries now (before: 1)", "/a has 1 entry now (before: 1,520)"}},
		{"another file, as changed keys say", []tables.FileStatus{file("/a", 1)}, []tables.FileStatus{file("/b", 2)},
			nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, fileChanges(c.before, c.after)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
