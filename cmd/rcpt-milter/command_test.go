package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rcpt-milter/internal/build"
)

// TestUsage: what is wrong with a command line, without a daemon or a configuration.
func TestUsage(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none.yaml")
	for _, c := range []struct {
		args   []string
		status int
		stderr string
	}{
		{nil, exitUsage, `rcpt-milter: expected a command; see "rcpt-milter --help"`},
		{[]string{"stauts"}, exitUsage,
			`rcpt-milter: unknown command "stauts" for "rcpt-milter"; did you mean "status"? See "rcpt-milter --help"`},
		{[]string{"frobnicate"}, exitUsage,
			`rcpt-milter: unknown command "frobnicate" for "rcpt-milter"; see "rcpt-milter --help"`},
		{[]string{"help", "stauts"}, exitUsage,
			`rcpt-milter: unknown command "stauts" for "rcpt-milter"; did you mean "status"? See "rcpt-milter --help"`},
		{[]string{"help", "removals", "aprove"}, exitUsage, `rcpt-milter: unknown command "aprove" for ` +
			`"rcpt-milter removals"; did you mean "approve"? See "rcpt-milter removals --help"`},
		{[]string{"help", "status", "now"}, exitUsage,
			`rcpt-milter: unknown command "now" for "rcpt-milter status"; see "rcpt-milter status --help"`},
		{[]string{"removals", "aprove"}, exitUsage,
			`rcpt-milter: unexpected argument "aprove"; did you mean "approve"? See "rcpt-milter removals --help"`},
		{[]string{"status", "--jsn"}, exitUsage,
			`rcpt-milter: unknown flag: --jsn; did you mean "--json"? See "rcpt-milter status --help"`},
		{[]string{"status", "--frobnicate"}, exitUsage,
			`rcpt-milter: unknown flag: --frobnicate; see "rcpt-milter status --help"`},
		{[]string{"--verison"}, exitUsage,
			`rcpt-milter: unknown flag: --verison; did you mean "--version"? See "rcpt-milter --help"`},
		{[]string{"status", "now"}, exitUsage,
			`rcpt-milter: unexpected argument "now"; see "rcpt-milter status --help"`},
		{[]string{"lookup"}, exitUsage,
			`rcpt-milter: expected an ADDRESS, several, or - for a list on standard input; see "rcpt-milter lookup --help"`},
		{[]string{"lookup", ""}, exitUsage,
			`rcpt-milter: expected an ADDRESS such as user@example.com, got an empty one`},
		{[]string{"lookup", "<>"}, exitUsage,
			`rcpt-milter: expected an ADDRESS such as user@example.com, got an empty one`},
		{[]string{"lookup", "ann"}, exitUsage,
			`rcpt-milter: "ann" has no domain; expected an ADDRESS such as user@example.com`},
		{[]string{"lookup", "ann@."}, exitUsage,
			`rcpt-milter: "ann@." has no domain; expected an ADDRESS such as user@example.com`},
		{[]string{"lookup", "<ann@>"}, exitUsage,
			`rcpt-milter: "<ann@>" has no domain; expected an ADDRESS such as user@example.com`},
		{[]string{"lookup", "a@b", "ann"}, exitUsage,
			`rcpt-milter: "ann" has no domain; expected an ADDRESS such as user@example.com`},
		{[]string{"lookup", "-", "a@b", "-"}, exitUsage, `rcpt-milter: standard input (-) can be read once only`},
		{[]string{"lookup", "a@b", "c@d", "--client", "mail"}, exitUsage,
			`rcpt-milter: --client: expected an IP address, got "mail"`},
		{[]string{"lookup", "a@b", "--client", "mail"}, exitUsage,
			`rcpt-milter: --client: expected an IP address, got "mail"`},
		{[]string{"sync", "--config"}, exitUsage,
			`rcpt-milter: flag needs an argument: --config; see "rcpt-milter sync --help"`},
		{[]string{"status", "--config", nowhere}, exitConfig, "rcpt-milter: cannot read the configuration: open " +
			nowhere + ": no such file or directory"},
		{[]string{"serve", "--config", nowhere}, exitConfig, "rcpt-milter: cannot read the configuration: open " +
			nowhere + ": no such file or directory"},
		{[]string{"check", "--config", nowhere}, exitConfig, "rcpt-milter: cannot read the configuration: open " +
			nowhere + ": no such file or directory"},
		{[]string{"removals", "approve", "--up-to", "x"}, exitUsage,
			`rcpt-milter: --up-to: expected a whole number, not below 0, got "x"; see "rcpt-milter removals approve --help"`},
		{[]string{"report", "--limit", "x"}, exitUsage,
			`rcpt-milter: --limit: expected a whole number, got "x"; see "rcpt-milter report --help"`},
		{[]string{"status", "--every", "x"}, exitUsage,
			`rcpt-milter: --every: expected a duration such as 500ms, 2s or 1m, got "x"; see "rcpt-milter status --help"`},
		{[]string{"status", "--every", "2s"}, exitUsage, "rcpt-milter: --every requires --watch"},
		{[]string{"status", "--json=x"}, exitUsage,
			`rcpt-milter: --json: expected true or false, got "x"; see "rcpt-milter status --help"`},
		{[]string{"version"}, exitOK, ""},
		{[]string{"--version"}, exitOK, ""},
		{[]string{"--help"}, exitOK, ""},
		{[]string{"completion", "bash"}, exitOK, ""},
		{[]string{"completion"}, exitUsage,
			`rcpt-milter: expected a shell, one of bash, fish, powershell, zsh; see "rcpt-milter completion --help"`},
		{[]string{"completion", "nosh"}, exitUsage,
			`rcpt-milter: unknown shell "nosh", expected one of bash, fish, powershell, zsh; ` +
				`see "rcpt-milter completion --help"`},
		{[]string{"completion", "--help"}, exitOK, ""},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), c.args, &stdout, &stderr)
		if got := strings.TrimSuffix(stderr.String(), "\n"); status != c.status || got != c.stderr {
			t.Errorf("rcpt-milter %q: exit status %d, %s\nwant %d, %s", c.args, status, got, c.status, c.stderr)
		}
		if (stdout.Len() > 0) != (c.status == exitOK) {
			t.Errorf("rcpt-milter %q: prints %q", c.args, &stdout)
		}
	}
}

// TestVersion: the command and the flag print the same, with the number of the release.
func TestVersion(t *testing.T) {
	var command, flag, stderr bytes.Buffer
	run(t.Context(), []string{"version"}, &command, &stderr)
	run(t.Context(), []string{"--version"}, &flag, &stderr)
	if command.String() != flag.String() || stderr.Len() > 0 ||
		!strings.HasPrefix(flag.String(), "rcpt-milter "+build.Release()+" (") {
		t.Errorf("version prints %q, --version %q, standard error %q", &command, &flag, &stderr)
	}
}

// TestExitStatuses: the help of every command says what it ends with.
func TestExitStatuses(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return
		}
		if !strings.Contains(c.Long, "Exit status") {
			t.Errorf("the help of %q has no exit status", c.CommandPath())
		}
		for _, below := range c.Commands() {
			check(below)
		}
	}
	check((&app{}).root())
}

// TestHelpWidth: the help of every command fits a terminal of 80 columns.
func TestHelpWidth(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return
		}
		for line := range strings.Lines(c.Long + "\n" + c.UsageString()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpColumns {
				t.Errorf("a line of the help of %q has %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for _, below := range c.Commands() {
			check(below)
		}
	}
	check((&app{}).root())
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"lookup", "--help"}, &stdout, &stderr)
	for line := range strings.Lines(stdout.String()) { // flags are wrapped as well
		if len(line) > helpColumns+1 {
			t.Errorf("lookup --help prints %q", line)
		}
	}
}

// TestCompletion: the values of a flag that has few are offered.
func TestCompletion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"__complete", "export", "--format", ""}, &stdout, &stderr)
	if got, want := stdout.String(), "postmap\ntext\njson\n:4\n"; got != want {
		t.Errorf("export --format is completed by %q, want %q", got, want)
	}
}

// TestBadConfiguration: every command says the same of a bad file.
func TestBadConfiguration(t *testing.T) {
	r := newRig(t, "lisen: x", "late_after: soon")
	want := "rcpt-milter: " + r.config + `:1:1: unknown key "lisen"; did you mean "listen"?` + "\n" +
		"rcpt-milter: " + r.config + `:2:13: late_after: expected a duration such as 5s, 15m, 24h or 30d, got "soon"` +
		"\n"
	for _, args := range [][]string{{"serve"}, {"check"}, {"status"}, {"lookup", "a@b"}, {"sync"}} {
		if out := r.want(exitConfig, args...); out != want {
			t.Errorf("%s says\n%swant\n%s", args, out, want)
		}
	}
}

func TestCheck(t *testing.T) {
	r := newRig(t)
	if out := r.want(exitOK, "check"); out != "ok: configuration "+r.config+": 2 domains, 1 directory\n"+
		"ok: store "+r.dir+"/store: none yet, the first start makes it\n" {
		t.Errorf("check before the first start says\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "store")); !os.IsNotExist(err) {
		t.Errorf("check made a store (%v)", err)
	}
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitOK, "check"); !strings.Contains(out,
		"/store: in use by the daemon, 2 addresses of 1 object, digest "+r.status().Digest+", counted again by it\n") {
		t.Errorf("check beside the daemon says\n%s", out)
	}
	d.stop()
	if out := r.want(exitOK, "check"); !strings.Contains(out, "/store: 2 addresses of 1 object, digest ") {
		t.Errorf("check after the daemon says\n%s", out)
	}
}

func TestCheckFindings(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(r *rig)
		want  string // level:name
		value string // that it names
	}{
		{"open password", func(r *rig) { os.Chmod(filepath.Join(r.dir, "password"), 0o644) }, "warning:configuration",
			"DIR/config.yaml:13:56: directories[0].bind.password_file: DIR/password is readable by every account"},
		{"empty password", func(r *rig) { r.write("password", "") }, "problem:files",
			"DIR/config.yaml:13:56: directories[0].bind.password_file: the password file DIR/password is empty"},
		{"damaged store", func(r *rig) {
			os.Mkdir(filepath.Join(r.dir, "store"), 0o700)
			r.write("store/MANIFEST", "not a manifest")
		}, "problem:store", "the store is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.make(r)
			all := r.findings(false)
			value := strings.ReplaceAll(c.value, "DIR", r.dir)
			found := named(all, c.want)
			if len(found) != 1 || !strings.Contains(found[0].Text, value) {
				t.Errorf("check finds %+v, want %s with %q", all, c.want, value)
			}
			status := exitOK
			if len(named(all, "problem")) > 0 {
				status = exitFailure
			}
			r.want(status, "check")
		})
	}
}

// TestCheckMissingFiles: a file that the configuration names and that does not exist is an error
// of the configuration.
func TestCheckMissingFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		file func(r *rig) string
		key  string
	}{
		{"password", func(r *rig) string { return filepath.Join(r.dir, "password") },
			"directories[0].bind.password_file"},
		{"CA", func(r *rig) string { return r.ca }, "directories[0].tls.ca_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			if err := os.Remove(c.file(r)); err != nil {
				t.Fatal(err)
			}
			if out := r.want(exitConfig, "check"); !strings.Contains(out, c.key) || !strings.Contains(out, c.file(r)) {
				t.Errorf("check says\n%swant the key %s and the file", out, c.key)
			}
		})
	}
}

// TestProgress: on a terminal the line of a pass under way is replaced; elsewhere only
// what ended is printed.
func TestProgress(t *testing.T) {
	s := consoleStatus(t, "troubled")
	const underway = "lab: full pass, ████░░░░░░░░░░░░░░░░ 12,000 of about 50,000 objects\r\x1b[K"
	for _, c := range []struct {
		shown bool
		want  string
	}{
		{true, underway + "corp: full pass 1, 12 s, 456,999 seen, 1,234,567 added, 456,789 changed, 0 removed, ok\n" +
			underway},
		{false, "corp: full pass 1, 12 s, 456,999 seen, 1,234,567 added, 456,789 changed, 0 removed, ok\n"},
	} {
		var out bytes.Buffer
		p := newProgress(&app{stdout: &out, now: time.Now}, c.shown)
		p.event(*s.Directories[1].Running)
		ended := *s.Directories[1].Running
		ended.Directory, ended.Pass = "corp", s.Directories[0].LastFull
		p.event(ended)
		p.Clear()
		if out.String() != c.want {
			t.Errorf("on a terminal %t: %q, want %q", c.shown, &out, c.want)
		}
	}
}
