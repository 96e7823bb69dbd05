package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/config"
)

// TestCheckExport checks that check finds what keeps a list from being written, or from being used.
func TestCheckExport(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		export config.Export
		want   string // name and a part of the text; empty: nothing is found
	}{
		{"none", config.Export{}, ""},
		{"good", config.Export{File: filepath.Join(dir, "list"), Command: []string{"true"}}, ""},
		{"no directory", config.Export{File: filepath.Join(dir, "none", "list")},
			"export-file export.file: stat " + dir + "/none: no such file or directory; create the directory"},
		{"the directory of the store, before the first start", config.Export{File: filepath.Join(dir, "store", "list")},
			""},
		{"a file for a directory", config.Export{File: filepath.Join(file, "list")}, "export-file export.file: " +
			file},
		{"no program", config.Export{File: filepath.Join(dir, "list"), Command: []string{"/nowhere/postmap"}},
			"export-command export.command: "},
		{"no program in the path", config.Export{File: filepath.Join(dir, "list"),
			Command: []string{"no-such-postmap"}},
			`export-command export.command: there is no program "no-such-postmap"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			f := &findings{visit: func(f Finding) { got += f.Name + " " + f.Text }}
			f.checkExport(c.export, filepath.Join(dir, "store"))
			if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
