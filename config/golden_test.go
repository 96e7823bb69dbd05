package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files in testdata instead of comparing with them")

// golden is a file in testdata with the wording of what is reported about inputs.
type golden struct {
	want map[string]string
	got  strings.Builder
	used map[string]int
}

func openGolden(t *testing.T, file string) *golden {
	t.Helper()
	path := filepath.Join("testdata", file)
	g := &golden{want: map[string]string{}, used: map[string]int{}}
	t.Cleanup(func() {
		if !*update {
			return
		}
		if err := os.WriteFile(path, []byte(g.got.String()), 0o644); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(text), "--- ") {
		name, want, _ := strings.Cut(section, "\n")
		g.want[name] = want
	}
	return g
}

// run compares what report returns with the section of an input, in a subtest of its name.
func (g *golden) run(t *testing.T, in string, report func(*testing.T) string) {
	t.Helper()
	name := strings.Trim(strconv.Quote(in), `"`)
	if runes := []rune(name); len(runes) > 150 {
		name = string(runes[:150]) + "..."
	}
	if g.used[name]++; g.used[name] > 1 {
		name += fmt.Sprintf(" #%d", g.used[name])
	}
	t.Run(name, func(t *testing.T) {
		got := report(t)
		if got != "" {
			got += "\n"
		}
		g.got.WriteString("--- " + name + "\n" + got)
		if want := g.want[name]; got != want && !*update {
			t.Errorf("of\n%s\nis reported\n%swant\n%s", in, got, want)
		}
	})
}
