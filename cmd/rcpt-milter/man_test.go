package main

import (
	"bytes"
	"os"
	"path/filepath"
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
		{[]string{"man", "stauts"}, exitUsage,
			`rcpt-milter: there is no manual page "rcpt-milter-stauts"; there are rcpt-milter, rcpt-milter-check, `},
		{[]string{"man", "--dir", "x", "status"}, exitUsage,
			`rcpt-milter: --dir writes all pages, so it takes no "status"`},
	} {
		var out bytes.Buffer
		if status := run(t.Context(), c.args, &out, &out); status != c.status ||
			!strings.Contains(out.String(), c.want) {
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

// TestManRoot: the page of the program has its commands, files and examples, and man can read it.
func TestManRoot(t *testing.T) {
	var out bytes.Buffer
	if status := run(t.Context(), []string{"man"}, &out, &out); status != exitOK {
		t.Fatalf("exit status %d, %s", status, &out)
	}
	at := 0
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "FILES",
		"EXAMPLES", "SEE ALSO"} {
		next := strings.Index(out.String(), "\n.SH "+section+"\n")
		if next < at {
			t.Errorf("section %s is missing or out of order", section)
		}
		at = max(at, next)
	}
	for _, c := range (&app{}).root().Commands() {
		if want := `\fB` + c.Name() + `\fP`; c.IsAvailableCommand() && !strings.Contains(out.String(), want) {
			t.Errorf("the page has no %s", want)
		}
	}
	for _, e := range manExamples {
		ours := ourCommand.FindStringSubmatch(e.command)
		if ours == nil {
			t.Errorf("example %q is no command of this program", e.command)
		} else if err := understood(ours[1]); err != nil {
			t.Errorf("example %q: %v", e.command, err)
		}
	}
}
