package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestMan(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"man"}, exitOK, `.TH "RCPT-MILTER" "8" `},
		{[]string{"man", "status"}, exitOK, `.TH "RCPT-MILTER-STATUS" "8" `},
		{[]string{"man", "removals", "approve"}, exitOK, `.TH "RCPT-MILTER-REMOVALS-APPROVE" "8" `},
		{[]string{"man", "rcpt-milter.yaml"}, exitOK, `.TH "RCPT-MILTER.YAML" "5" `},
		{[]string{"man", "stauts"}, exitUsage, `rcpt-milter: there is no manual page "rcpt-milter-stauts"; there are rcpt-milter, rcpt-milter-check, `},
		{[]string{"man", "--dir", "x", "status"}, exitUsage,
			`rcpt-milter: --dir writes all pages, so it goes without "status"`},
	} {
		var out bytes.Buffer
		if status := run(t.Context(), c.args, &out, &out); status != c.status || !strings.Contains(out.String(), c.want) {
			t.Errorf("rcpt-milter %q: exit status %d, %.200s\nwant %d, %s", c.args, status, &out, c.status, c.want)
		}
	}
}

// TestManDir: there is a page for every command, and each leads to the configuration.
func TestManDir(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if status := run(t.Context(), []string{"man", "--dir", dir}, &out, &out); status != exitOK {
		t.Fatalf("exit status %d, %s", status, &out)
	}
	for _, c := range (&app{}).root().Commands() {
		if c.Name() == "help" || c.Hidden {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "man8", "rcpt-milter-"+c.Name()+".8"))
		if err != nil || !strings.HasSuffix(string(text), "(8)\\fP, \\fBrcpt-milter.yaml(5)\\fP\n") {
			t.Errorf("page of %s ends with %q, %v", c.Name(), text[max(0, len(text)-80):], err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "man5", "rcpt-milter.yaml.5"))
	if err != nil || !strings.Contains(string(page), "stale_after: 30m") {
		t.Errorf("rcpt-milter.yaml.5: %v\n%s", err, page)
	}
}

func TestBuild(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	revision := setting("vcs.revision", "0123456789abcdef0123456789abcdef01234567")
	when := setting("vcs.time", "2026-03-04T12:00:00Z")
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, ""},
		{&debug.BuildInfo{}, ""},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{revision, when, setting("vcs.modified", "false")}},
			"commit 0123456789ab of 2026-03-04, "},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{revision, when, setting("vcs.modified", "true")}},
			"changed since commit 0123456789ab of 2026-03-04, "},
	} {
		if got := readBuild(c.info).String(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.info, got, c.want)
		}
	}
}
