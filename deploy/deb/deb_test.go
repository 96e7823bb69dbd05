package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestDebianVersion(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, c := range []struct{ name, described, want string }{
		{"tag of the release", "v1.2.3", "1.2.3"},
		{"candidate", "v1.2.3-rc1", "1.2.3~rc1"},
		{"after the release", "v1.2.3-4-gabcdef0", "1.2.3+git20260304050607.abcdef0"},
		{"after a candidate", "v1.2.3-rc1-4-gabcdef0", "1.2.3~rc1+git20260304050607.abcdef0"},
		{"after an earlier release", "v1.2.2-4-gabcdef0", "1.2.3~git20260304050607.abcdef0"},
		{"changed", "v1.2.3-dirty", "1.2.3+changed"},
		{"no tag", "abcdef0", "1.2.3~git20260304050607.abcdef0"},
		{"no tag, changed", "abcdef0-dirty", "1.2.3~git20260304050607.abcdef0+changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := debianVersion("1.2.3", c.described, at)
			if got != c.want || !validVersion.MatchString(got) {
				t.Errorf("debianVersion(%q) = %q, want %q", c.described, got, c.want)
			}
		})
	}
	for _, bad := range []string{"", "v1", "1.2-3", "1:2", "1 2", "1_2"} {
		if validVersion.MatchString(bad) {
			t.Errorf("%q passes for a version", bad)
		}
	}
}

func TestIsLicence(t *testing.T) {
	for name, want := range map[string]bool{
		"LICENSE": true, "LICENSE.txt": true, "license.md": true, "LICENSE-MIT": true, "COPYING": true, "NOTICE": true,
		"PATENTS":   true,
		"README.md": false, "licenses.go": false, "go.mod": false,
	} {
		if isLicence(name) != want {
			t.Errorf("isLicence(%q) = %t, want %t", name, !want, want)
		}
	}
}

// TestLicences: everything that is linked in says how it may be passed on.
func TestLicences(t *testing.T) {
	b := &builder{top: "../.."}
	text, err := b.copyright(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	modules, err := b.modules(t.Context())
	if err != nil || len(modules) < 10 || len(text) < 1000*len(modules) {
		t.Errorf("%d modules, %d bytes of licences, %v", len(modules), len(text), err)
	}
}

// TestStatic: what needs libraries, or is for another machine, is not packed.
func TestStatic(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	for _, c := range []struct {
		path, arch string
		want       string
	}{
		{"/bin/sh", runtime.GOARCH, "not static"},
		{self, other, "not for " + other},
		{"deb_test.go", runtime.GOARCH, "bad magic number"},
	} {
		if err := static(c.path, c.arch); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("static(%q, %q) = %v, want %q", c.path, c.arch, err, c.want)
		}
	}
}

// TestPackages builds the packages for both architectures, and one of them again: the
// same sources make the same bytes.
func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the program twice")
	}
	read := func(name string, arches ...string) []byte {
		dir := t.TempDir()
		if err := run(t.Context(), arches, "1.2.3", dir); err != nil {
			t.Fatal(err)
		}
		for _, arch := range arches {
			if _, err := os.Stat(filepath.Join(dir, "rcpt-milter_1.2.3_"+arch+".deb")); err != nil {
				t.Error(err)
			}
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	name := "rcpt-milter_1.2.3_" + runtime.GOARCH + ".deb"
	if !bytes.Equal(read(name, "amd64", "arm64"), read(name, runtime.GOARCH)) {
		t.Error("building again makes another package")
	}
}
