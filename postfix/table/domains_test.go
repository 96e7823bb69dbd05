package table

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNamesDomain(t *testing.T) {
	table, err := Read(strings.NewReader("ann@Example.com x\n@whole.example x\n\"a@b\"@quoted.example " +
		"x\nbob@münchen.example x\nnot an address\n"))
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{"example.com": true, "whole.example": true, "quoted.example": true,
		"xn--mnchen-3ya.example": true, "b": false, "sub.whole.example": false, "com": false, "": false} {
		if got := table.NamesDomain(domain); got != want {
			t.Errorf("NamesDomain(%q) = %t, want %t", domain, got, want)
		}
	}
	if (&Table{}).NamesDomain("example.com") {
		t.Error("an empty table names a domain")
	}
}

func TestDomainsNamedByFiles(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for name, text := range map[string]string{"one": "a@one.example x\nb@both.example x\n",
		"two": "@two.example x\nc@both.example x\n"} {
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tables := NewFiles(Config{})
	if tables.NamesDomain("one.example") {
		t.Error("no files name a domain")
	}
	p, err := tables.Prepare(files)
	if err != nil {
		t.Fatal(err)
	}
	tables.Use(p)
	named := map[string]bool{}
	tables.DomainsNamed(func(domain string) bool { named[domain] = true; return true })
	want := []string{"both.example", "one.example", "two.example"}
	if got := slices.Sorted(maps.Keys(named)); !slices.Equal(got, want) {
		t.Errorf("domains named: %q", got)
	}
	if !tables.NamesDomain("two.example") || tables.NamesDomain("three.example") {
		t.Error("two.example is named, three.example is not")
	}
	visits := 0
	tables.DomainsNamed(func(string) bool { visits++; return false })
	if visits != 1 {
		t.Errorf("%d visits after a request to stop", visits)
	}
}
