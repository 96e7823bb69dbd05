package main

import (
	"testing"
	"time"
)

func TestDebianVersion(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, c := range []struct{ described, want string }{
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-rc1", "1.2.3~rc1"},
		{"v1.2.3-4-gabcdef0", "1.2.3+git20260304050607.abcdef0"},
		{"v1.2.3-rc1-4-gabcdef0", "1.2.3~rc1+git20260304050607.abcdef0"},
		{"v1.2.3-dirty", "1.2.3+changed"},
		{"abcdef0", "0~git20260304050607.abcdef0"},
		{"abcdef0-dirty", "0~git20260304050607.abcdef0+changed"},
	} {
		got := debianVersion(c.described, at)
		if got != c.want || !validVersion.MatchString(got) {
			t.Errorf("debianVersion(%q) = %q, want %q", c.described, got, c.want)
		}
	}
	for _, bad := range []string{"", "v1", "1.2-3", "1:2", "1 2", "1_2"} {
		if validVersion.MatchString(bad) {
			t.Errorf("%q passes for a version", bad)
		}
	}
}

func TestIsLicence(t *testing.T) {
	for name, want := range map[string]bool{
		"LICENSE": true, "LICENSE.txt": true, "license.md": true, "LICENSE-MIT": true, "COPYING": true, "NOTICE": true, "PATENTS": true,
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
		t.Errorf("%d modules, %d octets of licences, %v", len(modules), len(text), err)
	}
}
