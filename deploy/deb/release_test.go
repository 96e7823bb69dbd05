package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDated: a release needs a heading with a date, above those of earlier ones.
func TestDated(t *testing.T) {
	for _, c := range []struct{ name, changelog, want string }{
		{"dated", "# Changelog\n\n## [1.2.3] - 2026-11-28\n\n## [1.2.2] - 2026-10-01\n", ""},
		{"below unreleased changes", "## [Unreleased]\n\n## [1.2.3] - 2026-11-28\n", ""},
		{"no date", "## [1.2.3]\n", "no date for 1.2.3"},
		{"no day", "## [1.2.3] - 2026-11-31\n", "no date for 1.2.3"},
		{"an earlier release", "## [1.2.2] - 2026-11-28\n", "newest release in CHANGELOG.md is 1.2.2"},
		{"none", "# Changelog\n", "no release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := dated(c.changelog, "1.2.3")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("dated: %v, want %q", err, c.want)
			}
		})
	}
}

// TestReleaseIsDated: the changelog of the checkout has the number of the checkout.
func TestReleaseIsDated(t *testing.T) {
	version, err := releaseOf("../..")
	if err != nil {
		t.Fatal(err)
	}
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := dated(string(changelog), version); err != nil {
		t.Error(err)
	}
}

// TestMaintainer: no package names a machine that exists nowhere.
func TestMaintainer(t *testing.T) {
	b := &builder{top: "../.."}
	t.Setenv("DEBFULLNAME", "")
	t.Setenv("DEBEMAIL", "")
	got, err := b.maintainer()
	if err != nil || strings.Contains(got, "localhost") {
		t.Errorf("maintainer %q, %v", got, err)
	}
	t.Setenv("DEBFULLNAME", "Ann Example")
	t.Setenv("DEBEMAIL", "ann@example.com")
	if got, err := b.maintainer(); err != nil || got != "Ann Example <ann@example.com>" {
		t.Errorf("maintainer %q, %v, want the one of the environment", got, err)
	}
	bad := t.TempDir()
	os.WriteFile(filepath.Join(bad, "MAINTAINERS"), []byte("nobody\n"), 0o600)
	t.Setenv("DEBEMAIL", "")
	if got, err := (&builder{top: bad}).maintainer(); err == nil {
		t.Errorf("maintainer %q of a file without an address", got)
	}
}

func TestIdentify(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"apache", "   Apache License\n  Version 2.0, January 2004\n", "Apache-2.0"},
		{"bsd 3", "Redistribution and use in source and binary forms …\n * Neither the name of X", "BSD-3-Clause"},
		{"bsd 2", "Redistribution and use in source\nand binary forms, with or without", "BSD-2-Clause"},
		{"mit", "Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"},
		{"two", "Permission is hereby granted, free of charge, to any person obtaining a copy\n\n" +
			"Apache License\nVersion 2.0, January 2004", "Apache-2.0 AND MIT"},
		{"unknown", "All rights reserved.", noAssertion},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := identify(c.text); got != c.want {
				t.Errorf("identify = %q, want %q", got, c.want)
			}
		})
	}
}

// TestSBOM: the bill lists each linked module with a version and a known licence, and each part is
// related to the program.
func TestSBOM(t *testing.T) {
	b := &builder{top: "../..", source: source{version: "1.2.3"}}
	text, err := b.sbom(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var bill spdxDocument
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	related := map[string]int{}
	for _, r := range bill.Relationships {
		related[r.Related]++
	}
	for _, p := range bill.Packages {
		if p.Version == "" || p.Declared == noAssertion || related[p.ID] != 1 {
			t.Errorf("%s %s, licence %s, %d relationships", p.Name, p.Version, p.Declared, related[p.ID])
		}
	}
	if len(bill.Packages) < 12 || bill.Packages[0].Version != "1.2.3" {
		t.Errorf("%d packages, the first is %+v", len(bill.Packages), bill.Packages[0])
	}
}

// TestSameFiles: a second build that differs is reported.
func TestSameFiles(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first, "a", "1")
	write(second, "a", "1")
	if err := sameFiles(first, second); err != nil {
		t.Errorf("equal files: %v", err)
	}
	write(first, "b", "1")
	write(second, "b", "2")
	write(second, "c", "3")
	err := sameFiles(first, second)
	if err == nil || !strings.Contains(err.Error(), "b differs") || !strings.Contains(err.Error(), "c: no such file") {
		t.Errorf("different files: %v", err)
	}
}

// TestTry runs the binary of each architecture that this machine can run.
func TestTry(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the program")
	}
	b, err := newBuilder(t.Context(), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			if emulated("", arch) == nil {
				t.Skip("there is no emulator; install qemu-user-static")
			}
			binary, err := b.compile(t.Context(), arch)
			if err != nil {
				t.Fatal(err)
			}
			if err := try(t.Context(), binary, arch, "1.2.3"); err != nil {
				t.Error(err)
			}
			if err := try(t.Context(), binary, arch, "1.2.4"); err == nil {
				t.Error("a binary of another version is accepted")
			}
		})
	}
	if err := try(t.Context(), "/bin/false", runtime.GOARCH, "1.2.3"); err == nil {
		t.Error("a program that fails is accepted")
	}
}

// TestReleasable: what must not become a release.
func TestReleasable(t *testing.T) {
	top := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		command := exec.Command("git",
			append([]string{"-C", top, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(top, "CHANGELOG.md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refuses := func(version, want string) {
		t.Helper()
		err := releasable(t.Context(), top, version)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("releasable(%s): %v, want %q", version, err, want)
		}
	}
	git("init", "--quiet")
	write("## [1.2.3] - 2026-11-28\n")
	refuses("1.2.3", "not committed")
	git("add", ".")
	git("commit", "--quiet", "--message", "one")
	refuses("1.2.3", "")
	git("tag", "v1.2.3")
	refuses("1.2.3", "")
	refuses("1.2.4", "add one for 1.2.4")
	write("## [1.2.3] - 2026-11-29\n")
	git("commit", "--quiet", "--all", "--message", "two")
	refuses("1.2.3", "tag v1.2.3 is another commit")
}
