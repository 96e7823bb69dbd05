package testenv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// newcomer is somebody with a mail server who does what docs/install.md says, line by
// line. What the document says and nobody does is found out.
type newcomer struct {
	*edge
	lines []string // of the section, not done yet
	steps int
	start time.Time
}

// codeLines are the command lines of a section of docs/install.md. One that goes on in the
// next line is one.
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

// reads takes up a section of the document; that before has to be done.
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

// next is the next line of the document, which has to be this one.
func (n *newcomer) next(line string) string {
	n.t.Helper()
	if len(n.lines) == 0 || n.lines[0] != line {
		n.t.Fatalf("docs/install.md goes on with %q, the test with %q", n.lines, line)
	}
	n.lines = n.lines[1:]
	n.steps++
	return line
}

// does runs the next line of the document as it is written, and gives what it printed.
func (n *newcomer) does(line string) string {
	n.t.Helper()
	out := n.sh(n.next(line))
	n.t.Logf("%5.1f s  %s\n%s", time.Since(n.start).Seconds(), line, out)
	return out
}

// types stands for an editor, which is the next line of the document: text is then what
// the file has.
func (n *newcomer) types(line, file, text string) {
	n.t.Helper()
	n.next(line)
	n.writes(file, text)
}

// writes changes what a file has, and leaves its owner and mode.
func (n *newcomer) writes(file, text string) {
	n.t.Helper()
	out, err := n.ExecInput(n.ctx, testenv.Systemd, text, "tee", file)
	n.must(err)
	if out.Status != 0 {
		n.t.Fatalf("%s: %s", file, out.Stderr)
	}
}

// sh is a command line of the administrator that has to succeed.
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
	out, err := n.Exec(n.ctx, testenv.Systemd, "bash", "-c", "cd /root/work; "+line)
	n.must(err)
	return out
}

// shows is sh for an output that has to have some words.
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

// edits changes the configuration as people do.
func (n *newcomer) edits(edits ...func(string) string) {
	n.t.Helper()
	text := n.sh("cat " + testenv.ConfigFile)
	for _, edit := range edits {
		text = edit(text)
	}
	n.writes(testenv.ConfigFile, text)
}

// hears is what the mail server says to a client.
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

// judges: the edge answers, from an index that has been read.
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

// envSystemd set to "require" makes it a failure that systemd cannot run in a container:
// not every engine lets one have its control groups and its mounts, and no other test
// wants that.
const envSystemd = "TESTENV_SYSTEMD"

func (e *edge) joinSystemd() {
	e.t.Helper()
	if err := e.Join(e.ctx, testenv.Systemd); err != nil && !errors.Is(err, testenv.ErrNoImages) && os.Getenv(envSystemd) != "require" {
		fmt.Fprintf(os.Stderr, "PACKAGE TEST SKIPPED: systemd does not run in a container of this engine: %v\n", err)
		e.Leave(context.WithoutCancel(e.ctx), testenv.Systemd)
		e.t.Skip("PACKAGE TEST SKIPPED: systemd does not run in a container of this engine")
	}
	e.join(testenv.Systemd)
}

// packageDeadline is for a dozen runs of apt, which is slow where others are at work.
const packageDeadline = 8 * time.Minute

// mailServer gives a Debian with a Postfix that relays for corp.example, as it is before
// anybody has heard of us: postmaster and abuse go to somebody, no milter is asked. ann,
// of whom the document speaks, is in the directory.
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
	e.inGuest(testenv.Systemd, "mkdir", "/root/work")
	n.sh(`postconf -e 'myhostname = mail.edge.example' 'relay_domains = corp.example' 'parent_domain_matches_subdomains =' 'relayhost = [sink]' \
		'virtual_alias_maps = inline:{ {postmaster@corp.example=ann@corp.example}, {abuse@corp.example=ann@corp.example} }'
		systemctl reload postfix`)
	return n
}

// knowsAuthority gives the mail server the certificate that dc1's is signed with.
func (n *newcomer) knowsAuthority() {
	n.t.Helper()
	ca, err := n.ReadFile(n.ctx, testenv.DC, "/ca/ca.pem")
	n.must(err)
	n.writes("/usr/local/share/ca-certificates/corp.crt", ca)
	n.steps++
	n.sh("update-ca-certificates")
}

// ownController is the edit that the shipped configuration needs here.
var ownController = testenv.Replace("[ldaps://dc1.corp.example, ldaps://dc2.corp.example]", "[ldaps://dc1.corp.example]")

// buildPackage builds the package for the harness's machine, by the document's command.
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

// receives puts a package, and nothing else, where the administrator works.
func (n *newcomer) receives(deb string) {
	n.t.Helper()
	n.sh("rm -f *.deb")
	n.must(n.CopyIn(n.ctx, testenv.Systemd, deb, "/root/work"))
}

// TestPackage lives through the life of the Debian package on a mail server: installed as
// docs/install.md says, upgraded, its socket held by systemd, its password a credential,
// removed, purged and installed again.
func TestPackage(t *testing.T) {
	n := mailServer(t)
	n.reads("From a Debian package")
	build := n.next("go -C deploy/deb run .")
	first, second := buildPackage(t, build, "1.0.0"), buildPackage(t, build, "1.0.1")

	n.start = time.Now()
	n.receives(first)
	n.install()
	t.Logf("the first 550 after %d steps and %.1f s, the build not counted", n.steps, time.Since(n.start).Seconds())
	n.done()

	for _, part := range []struct {
		name string
		do   func(*newcomer)
	}{
		{"lintian", (*newcomer).lintian},
		{"systemd", (*newcomer).systemd},
		{"upgrade", func(n *newcomer) { n.upgrade(second) }},
		{"held socket and credential", (*newcomer).options},
		{"remove", (*newcomer).remove},
		{"installed again", func(n *newcomer) { n.again(second) }},
		{"purge", (*newcomer).purge},
		{"new after purge", func(n *newcomer) { n.anew(second) }},
		{"from source", (*newcomer).fromSource},
	} {
		t.Run(part.name, func(t *testing.T) {
			start := time.Now()
			sub := *n
			sub.edge = &edge{Harness: n.Harness, t: t, ctx: n.ctx}
			part.do(&sub)
			n.lines = sub.lines
			t.Logf("%.1f s", time.Since(start).Seconds())
		})
	}
}

// install is the way to the first 550.
func (n *newcomer) install() {
	n.does("apt install ./rcpt-milter_*.deb")
	n.is("rcpt-milter", "ActiveState", "inactive")
	n.is("rcpt-milter", "UnitFileState", "enabled")
	n.steps++
	n.edits(ownController)
	n.does("install -m 0640 -g rcpt-milter /dev/null /etc/rcpt-milter/password")
	n.types("nano /etc/rcpt-milter/password", testenv.PasswordFile, testenv.MailPassword+"\n")
	n.knowsAuthority()
	n.has("check", n.does("runuser -u rcpt-milter -- rcpt-milter check --live"), "svc-mail@corp.example may list deleted objects")
	n.does("systemctl start rcpt-milter")
	n.is("rcpt-milter", "ActiveState", "active")
	n.fresh()
	n.has("status", n.does("rcpt-milter status"), "State: fresh", "rcpt-milter 1.0.0")
	n.has("lookup", n.does("rcpt-milter lookup ann@corp.example"), "accepted", "(verdict known, row 6)")
	n.does("postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, default_action=tempfail }'")
	n.does("systemctl reload postfix")
	n.has("doctor", n.does("rcpt-milter doctor"), "No fault, 1 note", "[mode-report]")
	n.hears("ann@corp.example", accepted)
	n.hears("nobody@corp.example", accepted) // in mode report
	n.has("report", n.sh("rcpt-milter report"), "nobody@corp.example")
	n.steps++
	n.edits(testenv.Replace("corp.example: report", "corp.example: enforce"))
	n.steps++
	n.sh("systemctl reload rcpt-milter")
	n.judges()
}

// lintian finds no fault in the package, and nothing to warn of.
func (n *newcomer) lintian() {
	out := n.try("lintian --allow-root --fail-on error,warning ./rcpt-milter_*.deb")
	if out.Status != 0 || strings.TrimSpace(out.Stdout) != "" {
		n.t.Errorf("lintian: exit status %d\n%s%s", out.Status, out.Stdout, out.Stderr)
	}
	n.t.Logf("lintian: exit status %d, says %q", out.Status, out.Stdout+out.Stderr)
}

// maxExposure is what docs/install.md promises, from 0 (best) to 10.
const maxExposure = 1.5

// systemd has a service that tells of itself, and is shut in.
func (n *newcomer) systemd() {
	for name, want := range map[string]string{"Type": "notify", "WatchdogUSec": "1min", "NRestarts": "0", "SubState": "running"} {
		n.is("rcpt-milter", name, want)
	}
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		out, err := n.Exec(ctx, testenv.Systemd, "systemctl", "show", "--value", "-p", "StatusText", "rcpt-milter")
		if err == nil && !strings.HasPrefix(out.Stdout, "fresh, ") {
			err = fmt.Errorf("systemctl status shows %q", out.Stdout)
		}
		return err
	}))
	n.shows("stat -c %U /proc/$(systemctl show --value -p MainPID rcpt-milter)", "rcpt-milter")
	verify := n.try("systemd-analyze verify rcpt-milter.service rcpt-milter.socket")
	if verify.Status != 0 || strings.Contains(verify.Stderr, "rcpt-milter") {
		n.t.Errorf("systemd-analyze verify: exit status %d\n%s", verify.Status, verify.Stderr)
	}
	text := n.sh("systemd-analyze security rcpt-milter")
	_, level, _ := strings.Cut(text, "Overall exposure level for rcpt-milter.service: ")
	level, _, _ = strings.Cut(level, " ")
	exposure, err := strconv.ParseFloat(level, 64)
	if err != nil || exposure > maxExposure {
		n.t.Errorf("systemd-analyze security: %q, %v", level, err)
	}
	n.t.Logf("systemd-analyze security: %s", level)

	// One that hangs is killed by the watchdog, and started again.
	before := n.property("rcpt-milter", "MainPID")
	n.sh("systemctl kill --signal ABRT rcpt-milter")
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		out, err := n.Exec(ctx, testenv.Systemd, "systemctl", "show", "--value", "-p", "NRestarts", "-p", "ActiveState", "rcpt-milter")
		if err == nil && strings.Join(strings.Fields(out.Stdout), " ") != "active 1" && strings.Join(strings.Fields(out.Stdout), " ") != "1 active" {
			err = fmt.Errorf("after its end the service is %q", out.Stdout)
		}
		return err
	}))
	if after := n.property("rcpt-milter", "MainPID"); after == before {
		n.t.Errorf("the process is still %s", after)
	}
	n.judges()
}

// upgrade to a package whose configuration has changed, too. The administrator's stays.
func (n *newcomer) upgrade(deb string) {
	n.receives(deb)
	n.sh(`dpkg-deb -R rcpt-milter_*.deb next && echo '# A new key.' >> next/etc/rcpt-milter/config.yaml &&
		sed -i "s|.* etc/rcpt-milter/config.yaml|$(md5sum < next/etc/rcpt-milter/config.yaml | cut -c-32)  etc/rcpt-milter/config.yaml|" next/DEBIAN/md5sums &&
		dpkg-deb --root-owner-group -Zgzip -z1 -b next rcpt-milter_*.deb && rm -r next`)
	mine, pid := n.sh("cat "+testenv.ConfigFile), n.property("rcpt-milter", "MainPID")
	// The newline answers dpkg's question with its default.
	n.has("apt", n.sh("echo | apt install ./rcpt-milter_*.deb"), "Configuration file '/etc/rcpt-milter/config.yaml'", "keep your current version")
	if got := n.sh("cat " + testenv.ConfigFile); got != mine {
		n.t.Errorf("the configuration after the upgrade:\n%s", got)
	}
	n.shows("cat /etc/rcpt-milter/config.yaml.dpkg-dist", "# A new key.")
	if n.property("rcpt-milter", "MainPID") == pid {
		n.t.Error("the daemon was not restarted")
	}
	n.shows("stat -c '%U:%G %a' /etc/rcpt-milter /etc/rcpt-milter/config.yaml /etc/rcpt-milter/password",
		"root:rcpt-milter 750\nroot:rcpt-milter 640\nroot:rcpt-milter 640\n")
	n.judges()
	n.fresh()
	n.shows("rcpt-milter status", "rcpt-milter 1.0.1")
}

// options are what systemd can do beyond that.
func (n *newcomer) options() {
	n.reads("What systemd does for it")
	n.edits(testenv.Replace("#listen: unix:/var/spool/postfix/rcpt-milter/milter.sock", `listen: "fd:"`))
	n.does("systemctl stop rcpt-milter")
	n.does("systemctl enable --now rcpt-milter.socket")
	n.does("systemctl start rcpt-milter")
	n.is("rcpt-milter.socket", "ActiveState", "active")
	n.shows("stat -c '%U:%G %a' /var/spool/postfix/rcpt-milter/milter.sock", "rcpt-milter:postfix 660")
	n.judges()
	n.shows("rcpt-milter doctor", "Nothing is wrong between Postfix and rcpt-milter.")
	n.patient()

	n.does("install -d -m 0700 /etc/credstore")
	n.does("install -m 0600 /dev/null /etc/credstore/rcpt-milter.password")
	n.types("nano /etc/credstore/rcpt-milter.password", "/etc/credstore/rcpt-milter.password", testenv.MailPassword+"\n")
	n.sh("rm " + testenv.PasswordFile)
	n.writes("/root/work/editor", `#!/bin/sh
for file; do :; done
{ printf '[Service]\nLoadCredential=password:/etc/credstore/rcpt-milter.password\n'; } > /tmp/lines
sed -i '/^### Anything between here/r /tmp/lines' "$file"
`)
	n.sh("chmod +x editor; SYSTEMD_EDITOR=/root/work/editor script -qec 'systemctl edit rcpt-milter' /dev/null")
	n.edits(testenv.Replace("password_file: /etc/rcpt-milter/password", "password_file: /run/credentials/rcpt-milter.service/password"))
	n.does("systemctl restart rcpt-milter")
	n.sh("rcpt-milter sync --wait --full")
	n.shows("stat -c '%U %a' /run/credentials/rcpt-milter.service/password", "rcpt-milter 400")
	n.shows("rcpt-milter check --live", "may list deleted objects")
	n.judges()
	n.fresh()
}

// restarts is how often the service is restarted while a client asks.
const restarts = 3

// patient: while systemd holds the socket and the service restarts, nobody is turned away.
func (n *newcomer) patient() {
	n.t.Helper()
	address, err := n.Address(n.ctx, testenv.Systemd, testenv.PortSMTP)
	n.must(err)
	ctx, stop := context.WithCancel(n.ctx)
	defer stop()
	type result struct {
		asked int
		wrong []string
	}
	ended := make(chan result)
	go func() {
		var r result
		for ctx.Err() == nil {
			reply, err := testenv.AskOnce(n.ctx, address, "ann@corp.example")
			r.asked++
			if err != nil || reply.String() != accepted {
				r.wrong = append(r.wrong, fmt.Sprint(reply, " ", err))
			}
		}
		ended <- r
	}()
	var failed error
	for range restarts {
		out, err := n.Exec(n.ctx, testenv.Systemd, "systemctl", "restart", "rcpt-milter")
		if err == nil && out.Status != 0 {
			err = errors.New(out.Stderr)
		}
		failed = errors.Join(failed, err)
	}
	stop()
	r := <-ended
	n.must(failed)
	if len(r.wrong) > 0 || r.asked < restarts {
		n.t.Errorf("%d of %d were turned away, with %q", len(r.wrong), r.asked, r.wrong)
	}
	n.t.Logf("%d clients asked during %d restarts, %d were turned away", r.asked, restarts, len(r.wrong))
}

// What the package and the daemon have in the file system, but for the account.
var (
	packageFiles = []string{"/usr/bin/rcpt-milter", "/lib/systemd/system/rcpt-milter.service", "/lib/systemd/system/rcpt-milter.socket",
		"/usr/lib/sysusers.d/rcpt-milter.conf", "/usr/lib/tmpfiles.d/rcpt-milter.conf", "/usr/share/man/man8/rcpt-milter.8.gz", "/usr/share/doc/rcpt-milter"}
	dataFiles = []string{testenv.ConfigFile, testenv.StoreDir + "/MANIFEST"}
)

// remove takes the program; what the administrator and the directory told stays.
func (n *newcomer) remove() {
	mine := n.sh("cat " + testenv.ConfigFile)
	n.present(packageFiles...)
	n.sh("apt remove --yes rcpt-milter")
	n.absent(packageFiles...)
	n.present(dataFiles...)
	if n.sh("cat "+testenv.ConfigFile) != mine {
		n.t.Error("the configuration is not as it was")
	}
	n.stopped()
	n.hears("ann@corp.example", "451 4.7.1 Service unavailable - try again later")
}

// stopped: nothing of ours runs, and systemd knows of no unit that could.
func (n *newcomer) stopped() {
	n.t.Helper()
	for _, unit := range []string{"rcpt-milter.service", "rcpt-milter.socket"} {
		n.is(unit, "ActiveState", "inactive")
		if state := n.property(unit, "LoadState"); state != "masked" && state != "not-found" {
			n.t.Errorf("%s is %s", unit, state)
		}
	}
	if out := n.try("ls -l /proc/[0-9]*/exe | grep rcpt-milter"); out.Status == 0 {
		n.t.Errorf("a process of ours runs: %s", out.Stdout)
	}
}

// again after remove: it is as it was, with the index, and enabled as it was.
func (n *newcomer) again(deb string) {
	n.receives(deb)
	n.sh("echo | apt install ./rcpt-milter_*.deb")
	n.is("rcpt-milter.service", "UnitFileState", "enabled")
	n.is("rcpt-milter.socket", "UnitFileState", "enabled")
	n.sh("systemctl start rcpt-milter.socket rcpt-milter")
	n.judges()
}

// purge takes everything but the number of the account.
func (n *newcomer) purge() {
	n.sh("apt purge --yes rcpt-milter")
	n.absent(append(slices.Clone(packageFiles), "/etc/rcpt-milter", testenv.StoreDir, "/var/spool/postfix/rcpt-milter", "/run/rcpt-milter")...)
	n.stopped()
	// The administrator's own: the drop-in, and the password beside it.
	left := n.sh("find /etc /lib /run /usr /var -xdev -name '*rcpt-milter*' ! -path '/var/cache/man/*' ! -path '/etc/credstore/*' ! -path '/etc/systemd/system/rcpt-milter.service.d'")
	if strings.TrimSpace(left) != "" {
		n.t.Errorf("purge leaves\n%s", left)
	}
	if out := n.try("dpkg-query -W rcpt-milter"); out.Status == 0 {
		n.t.Errorf("dpkg still knows %s", out.Stdout)
	}
	if groups := n.sh("id -nG rcpt-milter"); strings.TrimSpace(groups) != "rcpt-milter" {
		n.t.Errorf("the account is in %s", groups)
	}
	n.sh("rm -r /etc/credstore /etc/systemd/system/rcpt-milter.service.d; systemctl daemon-reload")
}

// anew is as if it had never been there: nothing of the life before is in force.
func (n *newcomer) anew(deb string) {
	n.sh("apt install ./rcpt-milter_*.deb < /dev/null")
	n.is("rcpt-milter.service", "UnitFileState", "enabled")
	n.is("rcpt-milter.socket", "UnitFileState", "disabled")
	n.is("rcpt-milter.service", "ActiveState", "inactive")
	n.edits(ownController)
	n.sh("install -m 0640 -g rcpt-milter /dev/null " + testenv.PasswordFile)
	n.writes(testenv.PasswordFile, testenv.MailPassword+"\n")
	n.sh("systemctl start rcpt-milter")
	n.fresh()
	n.hears("ann@corp.example", accepted)
	n.hears("nobody@corp.example", accepted) // the shipped configuration only reports
	n.edits(testenv.Replace("corp.example: report", "corp.example: enforce"))
	n.sh("systemctl reload rcpt-milter")
	n.judges()
}

// fromSource is the way without a package, on the same machine after another purge.
func (n *newcomer) fromSource() {
	n.sh("apt purge --yes rcpt-milter; userdel rcpt-milter")
	n.absent("/usr/bin/rcpt-milter", "/etc/rcpt-milter", "/var/spool/postfix/rcpt-milter")
	n.reads("From source, without a package")
	binary := filepath.Join(n.t.TempDir(), "rcpt-milter")
	n.here(edited(n.t, n.next("CGO_ENABLED=0 go build ./cmd/rcpt-milter"), "go build ", "go build -o "+binary+" "))
	n.sh("mkdir deploy")
	for from, dir := range map[string]string{binary: "/root/work", "../deploy/systemd": "/root/work/deploy", "../deploy/config.yaml": "/root/work/deploy"} {
		n.must(n.CopyIn(n.ctx, testenv.Systemd, from, dir))
	}
	for len(n.lines) > 0 {
		n.does(n.lines[0])
	}
	n.is("rcpt-milter.service", "UnitFileState", "enabled")
	n.edits(ownController, testenv.Replace("corp.example: report", "corp.example: enforce"))
	n.sh("install -m 0640 -g rcpt-milter /dev/null " + testenv.PasswordFile)
	n.writes(testenv.PasswordFile, testenv.MailPassword+"\n")
	n.sh("systemctl start rcpt-milter")
	n.fresh()
	n.judges()
	n.shows("man -w rcpt-milter", "/man8/rcpt-milter.8")
}
