package testenv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// newcomer follows docs/install.md on a mail server, line by line. The test fails if a line of
// the document is not executed.
type newcomer struct {
	*edge
	lines []string // of the section, not executed yet
	steps int
	start time.Time
}

// codeLines returns the command lines of a section of docs/install.md. It joins lines that
// continue.
func codeLines(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/install.md has no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(rest, "\\\n", "")) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// reads begins a section of the document. The previous one must be complete.
func (n *newcomer) reads(section string) {
	n.t.Helper()
	n.done()
	n.lines = codeLines(n.t, section)
}

func (n *newcomer) done() {
	n.t.Helper()
	if len(n.lines) > 0 {
		n.t.Fatalf("docs/install.md goes on with %q", n.lines)
	}
}

// next returns the next line of the document, which must equal the argument.
func (n *newcomer) next(line string) string {
	n.t.Helper()
	if len(n.lines) == 0 || n.lines[0] != line {
		n.t.Fatalf("docs/install.md goes on with %q, the test with %q", n.lines, line)
	}
	n.lines = n.lines[1:]
	n.steps++
	return line
}

// does runs the next line of the document as written, and returns its output.
func (n *newcomer) does(line string) string {
	n.t.Helper()
	out := n.sh(n.next(line))
	n.t.Logf("%5.1f s  %s\n%s", time.Since(n.start).Seconds(), line, out)
	return out
}

// types replaces an editor, which is the next line of the document. The file then has the
// given text.
func (n *newcomer) types(line, file, text string) {
	n.t.Helper()
	n.next(line)
	n.writes(file, text)
}

// writes replaces the content of a file, and keeps its owner and mode.
func (n *newcomer) writes(file, text string) {
	n.t.Helper()
	out, err := n.ExecInput(n.ctx, testenv.Systemd, text, "tee", file)
	n.must(err)
	if out.Status != 0 {
		n.t.Fatalf("%s: %s", file, out.Stderr)
	}
}

// sh runs a command line of the administrator that must succeed.
func (n *newcomer) sh(line string) string {
	n.t.Helper()
	out := n.try(line)
	if out.Status != 0 {
		log := n.try("journalctl --no-pager -n 30 -u 'rcpt-milter*'")
		n.t.Fatalf("%s: exit status %d\n%s%s\n%s", line, out.Status, out.Stdout, out.Stderr, log.Stdout)
	}
	return out.Stdout
}

func (n *newcomer) try(line string) testenv.Output {
	n.t.Helper()
	out, err := n.Exec(n.ctx, testenv.Systemd, "bash", "-c", "cd /root/new; "+line)
	n.must(err)
	return out
}

// shows is sh for an output that must contain some words.
func (n *newcomer) shows(line string, words ...string) {
	n.t.Helper()
	n.has(line, n.sh(line), words...)
}

func (n *newcomer) has(what, text string, words ...string) {
	n.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			n.t.Fatalf("%s says nothing of %q:\n%s", what, w, text)
		}
	}
}

// edits changes the configuration as an administrator does.
func (n *newcomer) edits(edits ...func(string) string) {
	n.t.Helper()
	text := n.sh("cat " + testenv.ConfigFile)
	for _, edit := range edits {
		text = edit(text)
	}
	n.writes(testenv.ConfigFile, text)
}

// hears checks the reply of the mail server to a client.
func (n *newcomer) hears(recipient, want string) {
	n.t.Helper()
	address, err := n.Address(n.ctx, testenv.Systemd, testenv.PortSMTP)
	n.must(err)
	reply, err := testenv.AskOnce(n.ctx, address, recipient)
	n.must(err)
	if got := reply.String(); got != want {
		n.t.Fatalf("the mail server says %q to %s, want %q", got, recipient, want)
	}
}

// awaits is hears for a reply that takes effect later, as after a reload of Postfix.
func (n *newcomer) awaits(recipient, want string) {
	n.t.Helper()
	address, err := n.Address(n.ctx, testenv.Systemd, testenv.PortSMTP)
	n.must(err)
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		reply, err := testenv.AskOnce(ctx, address, recipient)
		if err == nil && reply.String() != want {
			err = fmt.Errorf("the mail server says %q to %s, want %q", reply, recipient, want)
		}
		return err
	}))
}

// judges checks that the edge answers from an index that has been read.
func (n *newcomer) judges() {
	n.t.Helper()
	n.hears("ann@corp.example", accepted)
	n.hears("nobody@corp.example", refused)
}

const (
	accepted = "250 2.1.5 Ok"
	refused  = "550 5.1.1 <nobody@corp.example>: Recipient address rejected: User unknown"
)

// fresh waits until the index has been read; status exits with 0 from then on.
func (n *newcomer) fresh() {
	n.t.Helper()
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		out, err := n.Exec(ctx, testenv.Systemd, "rcpt-milter", "status")
		if err == nil && out.Status != 0 {
			err = fmt.Errorf("status: %d: %s%s", out.Status, out.Stdout, out.Stderr)
		}
		return err
	}))
}

// property is what systemd says of the service.
func (n *newcomer) property(unit, name string) string {
	n.t.Helper()
	return strings.TrimSpace(n.sh("systemctl show --value -p " + name + " " + unit))
}

func (n *newcomer) is(unit, name, want string) {
	n.t.Helper()
	if got := n.property(unit, name); got != want {
		n.t.Errorf("%s: %s is %q, want %q", unit, name, got, want)
	}
}

// absent and present are about files of the mail server.
func (n *newcomer) absent(paths ...string) {
	n.t.Helper()
	for _, p := range paths {
		if out := n.try("ls -ld " + p); out.Status == 0 {
			n.t.Errorf("is still there: %s", out.Stdout)
		}
	}
}

func (n *newcomer) present(paths ...string) {
	n.t.Helper()
	for _, p := range paths {
		n.sh("ls -ld " + p)
	}
}

// envSystemd set to "require" makes it a failure if systemd cannot run in a container. Not
// every engine allows the necessary control groups and mounts, and no other test needs them.
const envSystemd = "TESTENV_SYSTEMD"

func (e *edge) joinSystemd() {
	e.t.Helper()
	if err := e.Join(e.ctx, testenv.Systemd); err != nil && !errors.Is(err, testenv.ErrNoImages) &&
		os.Getenv(envSystemd) != "require" {
		fmt.Fprintf(os.Stderr, "PACKAGE TEST SKIPPED: systemd does not run in a container of this engine: %v\n", err)
		e.Leave(context.WithoutCancel(e.ctx), testenv.Systemd)
		e.t.Skip("PACKAGE TEST SKIPPED: systemd does not run in a container of this engine")
	}
	e.join(testenv.Systemd)
}

// packageDeadline limits a dozen runs of apt, which is slow on a busy machine.
const packageDeadline = 8 * time.Minute

// mailServer returns a Debian with a Postfix that relays for corp.example, before the
// installation: postmaster and abuse have a mailbox, and no milter is configured. The
// directory has ann, an example of the document.
func mailServer(t *testing.T) *newcomer {
	e := require(t)
	ctx, cancel := context.WithTimeout(t.Context(), packageDeadline)
	t.Cleanup(cancel)
	e.ctx = ctx
	e.joinSystemd()
	n := &newcomer{edge: e, start: time.Now()}
	domain := e.administrator()
	dn, err := domain.AddUser(testenv.Person{Name: "ann", Proxies: []string{"SMTP:ann@corp.example"}})
	e.must(err)
	t.Cleanup(func() { domain.Delete(dn) })
	e.inGuest(testenv.Systemd, "mkdir", "/root/new")
	n.sh(`postconf -e 'myhostname = mail.edge.example' 'relay_domains = corp.example' 'parent_domain_matches_subdomains =' 'relayhost = [sink]' \
		'virtual_alias_maps = inline:{ {postmaster@corp.example=ann@corp.example}, {abuse@corp.example=ann@corp.example} }'
		systemctl reload postfix`)
	return n
}

// knowsAuthority installs the certificate of dc1's authority on the mail server.
func (n *newcomer) knowsAuthority() {
	n.t.Helper()
	ca, err := n.ReadFile(n.ctx, testenv.DC, "/ca/ca.pem")
	n.must(err)
	n.writes("/usr/local/share/ca-certificates/corp.crt", ca)
	n.steps++
	n.sh("update-ca-certificates")
}

// ownController is the edit that the shipped configuration needs here.
var ownController = testenv.Replace("[ldaps://dc1.corp.example, ldaps://dc2.corp.example]",
	"[ldaps://dc1.corp.example]")

// buildPackage builds the package for the harness's machine, with the command of the document.
func buildPackage(t *testing.T, command, version string) string {
	t.Helper()
	dir := t.TempDir()
	args := append(strings.Fields(command), "-arch", runtime.GOARCH, "-version", version, "-out", dir)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "rcpt-milter_"+version+"_*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages %q, %v", found, err)
	}
	return found[0]
}

// receives puts only the package into the working directory of the administrator.
func (n *newcomer) receives(deb string) {
	n.t.Helper()
	n.sh("rm -f *.deb")
	n.must(n.CopyIn(n.ctx, testenv.Systemd, deb, "/root/new"))
}
