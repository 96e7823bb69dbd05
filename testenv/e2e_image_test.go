package testenv_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/internal/text"
	"rcpt-milter/testenv"
)

// imageDeadline limits the build of an image and a start.
const imageDeadline = 5 * time.Minute

// TestImage builds the container image and runs it in place of the harness's daemon, with the
// commands of docs/install.md. Only names and paths differ.
func TestImage(t *testing.T) {
	e := require(t).in(t, imageDeadline)
	lines := codeLines(t, "In a container")
	if len(lines) != 6 {
		t.Fatalf("docs/install.md has %d lines for the container, want 6: %q", len(lines), lines)
	}
	name, index := e.Name("product"), e.Name("product-index")
	clean := func() {
		ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
		defer cancel()
		e.Docker(ctx, "rm", "--force", name) // of a run that was interrupted
		e.Docker(ctx, "volume", "rm", index)
		e.Docker(ctx, "image", "rm", name)
	}
	clean()
	t.Cleanup(clean)

	binary := filepath.Join("..", "deploy", "rcpt-milter")
	t.Cleanup(func() { os.Remove(binary) })
	e.here(lines[0])
	start := time.Now()
	e.here(edited(t, lines[1], "-t rcpt-milter ", "-t "+name+" "+quoted(testenv.BuildArgs(e.ctx))+" "))
	t.Logf("the image is built after %.1f s", time.Since(start).Seconds())

	e.must(e.Stop(e.ctx, testenv.Milter))
	sockets := "/var/spool/postfix/rcpt-milter"
	was := strings.TrimSpace(e.inGuest(testenv.MX, "stat", "-c", "%u", sockets))
	e.inGuest(testenv.MX, "sh", "-c", lines[2])
	t.Cleanup(func() { e.Exec(context.Background(), testenv.MX, "chown", was, sockets) })
	group := strings.TrimSpace(e.inGuest(testenv.MX, "sh", "-c", "getent group postfix | cut -d: -f3"))
	settings := filepath.Join(t.TempDir(), "etc")
	e.here(edited(t, lines[3], "-o 10025 -m 0750 /etc/rcpt-milter", "-m 0755 "+settings)) // for a user other than root
	e.writeSettings(settings)
	e.here(edited(t, lines[4],
		"--name rcpt-milter ", "--name "+name+" --network "+e.Network()+" -v "+e.Name("ca")+":/ca:ro ",
		"$(getent group postfix | cut -d: -f3)", group,
		"-v /etc/rcpt-milter:", "-v "+settings+":",
		"-v rcpt-milter:", "-v "+index+":",
		"-v "+sockets+":"+sockets, "-v "+e.Name("milter")+":"+sockets+":nocopy", // as a directory of the host
		"uid=10025 rcpt-milter", "uid=10025 "+name))

	status := edited(t, lines[5], "exec rcpt-milter ", "exec "+name+" ")
	e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, "sh", "-c", status).CombinedOutput()
		if err != nil {
			log, _ := e.Docker(ctx, "logs", "--tail", "5", name)
			return fmt.Errorf("%s: %w\n%s\n%s", status, err, out, log)
		}
		return nil
	}))
	e.replies("alice@corp.example", 250, "2.1.5")
	e.replies("nobody@corp.example", 550, "5.1.1")
	_, err := e.Docker(e.ctx, "stop", name) // it is killed after ten seconds
	e.must(err)
	if out, err := e.Docker(e.ctx, "inspect", "--format", "{{.State.ExitCode}}", name); err != nil ||
		strings.TrimSpace(out) != "0" {
		t.Errorf("it ended with %s, %v", out, err)
	}
}

// writeSettings writes the harness's configuration, for an image without groups.
func (e *edge) writeSettings(dir string) {
	e.t.Helper()
	text, err := e.DefaultConfig()
	e.must(err)
	text = testenv.Replace("{group: postfix, ", `{group: "", `)(text)
	e.must(os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o644))
	e.must(os.WriteFile(filepath.Join(dir, "password"), []byte(testenv.MailPassword+"\n"), 0o644))
}

// here runs a command line in the root of the checkout.
func (e *edge) here(line string) {
	e.t.Helper()
	cmd := exec.CommandContext(e.ctx, "sh", "-c", line)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// edited returns a line with other names and paths. The line must contain all of them.
func edited(t *testing.T, line string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(line, pairs[i]) {
			t.Fatalf("docs/install.md: %q has no %q", line, pairs[i])
		}
		line = strings.Replace(line, pairs[i], pairs[i+1], 1)
	}
	return line
}

// quoted returns a list of arguments for the shell.
func quoted(args []string) string {
	for i, a := range args {
		args[i] = text.ShellQuoted(a)
	}
	return strings.Join(args, " ")
}
