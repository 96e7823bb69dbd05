package testenv_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest matches the name of a test in docs/events.md.
var namedTest = regexp.MustCompile("`([a-z/-]+)/(Test[A-Za-z0-9]+)`")

// TestEventsAreShown: each row of docs/events.md names tests that exist.
func TestEventsAreShown(t *testing.T) {
	text, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		named := namedTest.FindAllStringSubmatch(line, -1)
		if row := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| event "); row {
			if rows++; len(named) == 0 {
				t.Errorf("no test is named in the row %q", line)
			}
		}
		for _, name := range named {
			if !declares(t, filepath.Join("..", name[1]), name[2]) {
				t.Errorf("there is no test %s in %s", name[2], name[1])
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d rows were found; is it a table still?", rows)
	}
}

// declares reports whether a test is declared in a package's directory.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
