package testenv_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	declaredTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)
	namedTarget    = regexp.MustCompile("`([a-z/-]+/Fuzz\\w+)`")
)

// TestFuzzTargetsAreNamed: docs/testing.md names each fuzz target with what it reads, and each of them
// has a committed corpus.
func TestFuzzTargetsAreNamed(t *testing.T) {
	text, err := os.ReadFile("../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	var named, declared []string
	for _, match := range namedTarget.FindAllStringSubmatch(string(text), -1) {
		named = append(named, match[1])
	}
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range declaredTarget.FindAllStringSubmatch(string(source), -1) {
			dir := filepath.Dir(path)
			declared = append(declared, strings.TrimPrefix(dir, "../")+"/"+match[1])
			if seeds, _ := os.ReadDir(filepath.Join(dir, "testdata/fuzz", match[1])); len(seeds) == 0 {
				t.Errorf("%s in %s has no corpus", match[1], dir)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(named)
	slices.Sort(declared)
	if !slices.Equal(named, declared) {
		t.Errorf("docs/testing.md names\n%q, the targets are\n%q", named, declared)
	}
}
