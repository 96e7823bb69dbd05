package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// codeSpan is code within a line, or a line of code.
	codeSpan = regexp.MustCompile("(?m)`([^`\n]+)`|^    +(.*)$|^\\$? ?(rcpt-milter .*)$")
	// ourCommand is a command line of ours, and whatever people put in front of it.
	ourCommand = regexp.MustCompile(`^(?:[$#] )?(?:runuser -u rcpt-milter -- |sudo (?:-u \S+ )?|docker exec (?:-it ` +
		`)?\S+ |command\[\w+\]=|/usr/bin/)*rcpt-milter ([a-z].*)$`)
	// advised is a command that the description of an alert names.
	advised = regexp.MustCompile(`rcpt-milter ([a-z]+(?: (?:approve|discard))?(?: --[a-z]+(?: [0-9]+h)?)?)`)
	// word is one of a command line, as the shell takes it in the simple cases.
	word = regexp.MustCompile(`"([^"]*)"|'([^']*)'|(\S+)`)
)

// TestDocumentedCommands: every command line of ours in the documents, and in the alerts,
// is one that this program understands.
func TestDocumentedCommands(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(documents) < 5 {
		t.Fatalf("documents %q: %v", documents, err)
	}
	found := 0
	for _, path := range append(documents, "../../README.md", "../../deploy/config.yaml") {
		for _, line := range commandsIn(t, path) {
			found++
			if err := understood(line); err != nil {
				t.Errorf("%s: rcpt-milter %s: %v", path, line, err)
			}
		}
	}
	rules, err := os.ReadFile("../../deploy/prometheus/rcpt-milter.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if !strings.Contains(line, "description:") {
			continue
		}
		for _, m := range advised.FindAllStringSubmatch(line, -1) {
			found++
			if err := understood(m[1]); err != nil {
				t.Errorf("rules: rcpt-milter %s: %v", m[1], err)
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d command lines found", found)
	}
}

// commandsIn are the command lines of a document, without the name of the program.
func commandsIn(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range codeSpan.FindAllStringSubmatch(string(text), -1) {
		for _, command := range regexp.MustCompile(` && |; | \| | > |\t#|  +#`).Split(m[1]+m[2]+m[3], -1) {
			if ours := ourCommand.FindStringSubmatch(strings.TrimSpace(command)); ours != nil {
				lines = append(lines, ours[1])
			}
		}
	}
	return lines
}

// argumentsOf are the words of a command line.
func argumentsOf(line string) (args []string) {
	for _, m := range word.FindAllStringSubmatch(line, -1) {
		args = append(args, m[1]+m[2]+m[3])
	}
	return args
}

// understood parses a command line without running it.
func understood(line string) error {
	args := argumentsOf(line)
	root := (&app{stdout: io.Discard, stderr: io.Discard}).root()
	root.InitDefaultCompletionCmd(args...)
	root.InitDefaultHelpCmd()
	command, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if command == root {
		return fmt.Errorf("no such command")
	}
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}

// TestDocumentedCommandsRun: they do what they say as well, with a daemon that knows Ann.
func TestDocumentedCommandsRun(t *testing.T) {
	r := newRig(t)
	r.addUser("ann", "smtp:ann@corp.example")
	table := r.write("relay_recipients", "ann@corp.example OK\njane@corp.example OK\njane.doe@corp.example OK\n")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("/etc/postfix/relay_recipients", table, "/var/backups", r.dir, "/usr/local/share/man",
		filepath.Join(r.dir, "man"),
		"ADDRESS", "ann@corp.example", "IP", "192.0.2.7")
	ran := map[string]bool{"serve": true} // which does not end
	for _, path := range append(documents, "../../README.md", "../../deploy/config.yaml") {
		for _, line := range commandsIn(t, path) {
			if ran[line] {
				continue
			}
			ran[line] = true
			if strings.HasPrefix(line, "edge ") || strings.HasPrefix(line, "fleet ") {
				continue // they need an engine: see TestFleetSetUp
			}
			status, stdout, stderr := r.command(argumentsOf(here.Replace(line))...)
			switch {
			case strings.HasPrefix(line, "doctor") && status == exitFailure: // there may be no Postfix here
			case strings.Contains(line, "--at") && strings.Contains(stderr, "no record of that time"):
			case status != exitOK:
				t.Errorf("%s: rcpt-milter %s: exit status %d\n%s%s", path, line, status, stdout, stderr)
			}
		}
	}
	if len(ran) < 25 {
		t.Errorf("only %d command lines found", len(ran))
	}
}

// TestUnderstood: the test above can fail.
func TestUnderstood(t *testing.T) {
	for line, want := range map[string]bool{
		"status --json": true, "removals approve": true, `lookup ann@corp.example --at "2026-03-04 14:05"`: true,
		"completion bash": true,
		"stauts":          false, "status --jsn": false, "lookup": false, "status now": false, "removals aprove": false,
	} {
		if err := understood(line); (err == nil) != want {
			t.Errorf("rcpt-milter %s: %v, want understood: %t", line, err, want)
		}
	}
}

// documentLink is a link from one document to another, or to a part of one.
var documentLink = regexp.MustCompile(`\]\(([^):# ]*\.md)?(#[a-z0-9-]+)?\)`)

// TestDocumentLinks: what a document links to is there.
func TestDocumentLinks(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documentLink.FindAllStringSubmatch(string(text), -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if there, err := os.ReadFile(target); err != nil {
				t.Errorf("%s: %v", path, err)
			} else if m[2] != "" && !strings.Contains(anchors(string(there)), m[2]+"\n") {
				t.Errorf("%s: %s has no heading for %s", path, target, m[2])
			}
		}
	}
}

// anchors are those of a document's headings, a line each.
func anchors(text string) string {
	var found strings.Builder
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		found.WriteString("#" + strings.ReplaceAll(name, " ", "-") + "\n")
	}
	return found.String()
}
