package main

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "rcpt-milter"

// importTable reads the packages of this module and what each may import from the table in
// docs/architecture.md. Patterns are those of path.Match. A package imports downwards only, so there is
// no circle and no shortcut.
func importTable(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| package | what it does | may import")
	if !found {
		t.Fatal("docs/architecture.md has no table of the packages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	mayImport := map[string]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 5 {
			continue
		}
		for _, name := range quoted(cells[1]) {
			if _, twice := mayImport[name]; twice {
				t.Errorf("docs/architecture.md: %s has two rows", name)
			}
			if _, err := os.Stat("../../" + name); err != nil {
				t.Errorf("docs/architecture.md: %v", err)
			}
			mayImport[name] = strings.Join(quoted(cells[3]), " ")
		}
	}
	return mayImport
}

// quoted returns what stands between backticks.
func quoted(text string) []string {
	var all []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			all = append(all, part)
		}
	}
	return all
}

// onlyIn lists the packages that a library may be imported in. The library stays exchangeable,
// and its types stay out of the interfaces of other packages.
var onlyIn = map[string]string{
	"github.com/dgraph-io/badger":         "store",
	"github.com/go-ldap/ldap":             "directory",
	"github.com/emersion/go-milter":       "milter",
	"github.com/nats-io":                  "stream stream/*",
	"github.com/spf13":                    "cmd/*",
	"github.com/charmbracelet":            "cmd/rcpt-milter internal/terminal",
	"github.com/prometheus/client_golang": "control/metrics",
	"github.com/coreos/go-systemd":        "daemon internal/logging internal/socket",
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	mayImport := importTable(t)
	for line := range strings.Lines(string(out)) {
		all := strings.Fields(line)
		name := strings.TrimPrefix(all[0], module+"/")
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s has no row in docs/architecture.md", name)
			continue
		}
		for _, imported := range all[1:] {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !matches(allowed, ours) {
				t.Errorf("%s must not import %s; it may import: %s", name, ours, allowed)
			}
			for library, rooms := range onlyIn {
				if strings.HasPrefix(imported, library) && !matches(rooms, name) &&
					!strings.HasPrefix(name, "testenv") {
					t.Errorf("%s must not import %s, which only %s may", name, imported, rooms)
				}
			}
		}
	}
}

// matches reports whether one of the patterns matches a package.
func matches(patterns, name string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		matched, _ := path.Match(pattern, name)
		return matched
	})
}
