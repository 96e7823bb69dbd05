package testenv_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// TestPackage covers the life of the Debian package on a mail server. It installs the package
// by docs/install.md, upgrades it, uses a socket of systemd and a credential for the password,
// removes it, purges it, and installs it again.
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
		{"export", (*newcomer).export},
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

// install follows the document to the first 550.
func (n *newcomer) install() {
	n.does("apt install ./rcpt-milter_*.deb")
	n.is("rcpt-milter", "ActiveState", "inactive")
	n.is("rcpt-milter", "UnitFileState", "enabled")
	n.steps++
	n.edits(ownController)
	n.does("install -m 0640 -g rcpt-milter /dev/null /etc/rcpt-milter/password")
	n.types("nano /etc/rcpt-milter/password", testenv.PasswordFile, testenv.MailPassword+"\n")
	n.knowsAuthority()
	n.has("check", n.does("runuser -u rcpt-milter -- rcpt-milter check --live"),
		"svc-mail@corp.example may list deleted objects")
	n.does("systemctl start rcpt-milter")
	n.is("rcpt-milter", "ActiveState", "active")
	n.fresh()
	n.has("status", n.does("rcpt-milter status"), "State: fresh", "rcpt-milter 1.0.0")
	n.has("lookup", n.does("rcpt-milter lookup ann@corp.example"), "accepted", "(verdict known, row 6)")
	n.does("postconf -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, connect_timeout=5s, command_timeout=10s, " +
		"default_action=tempfail }'")
	n.does("systemctl reload postfix")
	n.has("doctor", n.does("rcpt-milter doctor"), "No problems, 2 notes", "[mode-report]",
		"[delimiter]")
	n.hears("ann@corp.example", accepted)
	n.hears("nobody@corp.example", accepted) // in mode report
	n.has("report", n.sh("rcpt-milter report"), "nobody@corp.example")
	n.steps++
	n.edits(testenv.Replace("corp.example: report", "corp.example: enforce"))
	n.steps++
	n.sh("systemctl reload rcpt-milter")
	n.judges()
}

// lintian reports no error and no warning for the package.
func (n *newcomer) lintian() {
	out := n.try("lintian --allow-root --fail-on error,warning ./rcpt-milter_*.deb")
	if out.Status != 0 || strings.TrimSpace(out.Stdout) != "" {
		n.t.Errorf("lintian: exit status %d\n%s%s", out.Status, out.Stdout, out.Stderr)
	}
	n.t.Logf("lintian: exit status %d, says %q", out.Status, out.Stdout+out.Stderr)
}

// maxExposure is the exposure that docs/install.md promises, from 0 (best) to 10.
const maxExposure = 1.5

// systemd checks that the service reports its state and is sandboxed.
func (n *newcomer) systemd() {
	for name, want := range map[string]string{"Type": "notify", "WatchdogUSec": "1min", "NRestarts": "0",
		"SubState": "running"} {
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

	// The watchdog kills a hanging daemon with this signal, and systemd restarts it.
	before := n.property("rcpt-milter", "MainPID")
	n.sh("systemctl kill --signal ABRT rcpt-milter")
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		out, err := n.Exec(ctx, testenv.Systemd, "systemctl", "show", "--value", "-p", "NRestarts", "-p",
			"ActiveState", "rcpt-milter")
		if err == nil && strings.Join(strings.Fields(out.Stdout), " ") != "active 1" &&
			strings.Join(strings.Fields(out.Stdout), " ") != "1 active" {
			err = fmt.Errorf("after its end the service is %q", out.Stdout)
		}
		return err
	}))
	if after := n.property("rcpt-milter", "MainPID"); after == before {
		n.t.Errorf("the process is still %s", after)
	}
	n.judges()
}

// upgrade installs a package with another shipped configuration. The file of the administrator
// stays.
func (n *newcomer) upgrade(deb string) {
	n.receives(deb)
	n.sh(`dpkg-deb -R rcpt-milter_*.deb next && echo '# A new key.' >> next/etc/rcpt-milter/config.yaml &&
		sed -i "s|.* etc/rcpt-milter/config.yaml|$(md5sum < next/etc/rcpt-milter/config.yaml | cut -c-32)  etc/rcpt-milter/config.yaml|" next/DEBIAN/md5sums &&
		dpkg-deb --root-owner-group -Zgzip -z1 -b next rcpt-milter_*.deb && rm -r next`)
	mine, pid := n.sh("cat "+testenv.ConfigFile), n.property("rcpt-milter", "MainPID")
	// The newline accepts the default of dpkg's question.
	n.has("apt", n.sh("echo | apt install ./rcpt-milter_*.deb"), "Configuration file '/etc/rcpt-milter/config.yaml'",
		"keep your current version")
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

	// A version that would not start with this configuration leaves the former one running.
	pid = n.property("rcpt-milter", "MainPID")
	n.writes(testenv.ConfigFile, mine+"listen_socket: unix:/run/milter.sock\n")
	out := n.try("echo | apt install --reinstall ./rcpt-milter_*.deb")
	n.has("apt", out.Stdout+out.Stderr, `unknown key "listen_socket"`, "The former version runs on.")
	if now := n.property("rcpt-milter", "MainPID"); out.Status != 0 || now != pid {
		n.t.Errorf("apt ended with status %d; the daemon was %s and is %s", out.Status, pid, now)
	}
	n.judges()
	n.writes(testenv.ConfigFile, mine)
}

// export keeps a table current by postmap, in the sandbox of the unit. Postfix uses the table while
// the service is stopped, and asks the daemon again afterwards. Debian's Postfix has no lmdb: without a
// further package.
func (n *newcomer) export() {
	const file, table = testenv.StoreDir + "/relay_recipients", "hash:" + testenv.StoreDir + "/relay_recipients"
	before, milters := n.sh("cat "+testenv.ConfigFile), strings.TrimSpace(n.sh("postconf -h smtpd_milters"))
	n.edits(func(text string) string {
		return text + "export: {file: " + file + ", command: [postmap, \"" + table + "\"], every: 1s}\n"
	})
	n.sh("systemctl reload rcpt-milter")
	n.must(testenv.AwaitNil(n.ctx, poll, func(ctx context.Context) error {
		out, err := n.Exec(ctx, testenv.Systemd, "postmap", "-q", "ann@corp.example", table)
		if err == nil && out.Status != 0 {
			err = fmt.Errorf("no table yet: %s%s", out.Stderr, n.try("rcpt-milter status").Stdout)
		}
		return err
	}))
	n.sh("systemctl stop rcpt-milter")
	n.hears("ann@corp.example", "451 4.7.1 Service unavailable - try again later")
	n.sh("postconf -e 'relay_recipient_maps = " + table + "' 'smtpd_milters =' && postfix reload")
	n.awaits("nobody@corp.example", refused+" in relay recipient table")
	n.hears("ann@corp.example", accepted)
	n.sh("systemctl start rcpt-milter")
	n.sh("postconf -e 'relay_recipient_maps =' 'smtpd_milters = " + milters + "' && postfix reload")
	n.writes(testenv.ConfigFile, before)
	n.sh("systemctl reload rcpt-milter && rm " + file + "*")
	n.awaits("nobody@corp.example", refused)
	n.fresh()
	n.judges()
}

// options checks the optional features of systemd.
func (n *newcomer) options() {
	n.reads("What systemd does for it")
	n.edits(testenv.Replace("#listen: unix:/var/spool/postfix/rcpt-milter/milter.sock", `listen: "fd:"`))
	n.does("systemctl stop rcpt-milter")
	n.does("systemctl enable --now rcpt-milter.socket")
	n.does("systemctl start rcpt-milter")
	n.is("rcpt-milter.socket", "ActiveState", "active")
	n.shows("stat -c '%U:%G %a' /var/spool/postfix/rcpt-milter/milter.sock", "rcpt-milter:postfix 660")
	n.shows("stat -c '%U:%G %a' /var/spool/postfix/rcpt-milter", "root:postfix 2750")
	n.judges()
	n.shows("rcpt-milter doctor", "No problems, 1 note.")
	n.patient()

	n.does("install -d -m 0700 /etc/credstore")
	n.does("install -m 0600 /dev/null /etc/credstore/rcpt-milter.password")
	n.types("nano /etc/credstore/rcpt-milter.password", "/etc/credstore/rcpt-milter.password",
		testenv.MailPassword+"\n")
	n.sh("rm " + testenv.PasswordFile)
	n.writes("/root/new/editor", `#!/bin/sh
for file; do :; done
{ printf '[Service]\nLoadCredential=password:/etc/credstore/rcpt-milter.password\n'; } > /tmp/lines
sed -i '/^### Anything between here/r /tmp/lines' "$file"
`)
	n.sh("chmod +x editor; SYSTEMD_EDITOR=/root/new/editor script -qec 'systemctl edit rcpt-milter' /dev/null")
	n.edits(testenv.Replace("password_file: /etc/rcpt-milter/password",
		"password_file: /run/credentials/rcpt-milter.service/password"))
	n.does("systemctl restart rcpt-milter")
	n.sh("rcpt-milter sync --wait --full")
	n.shows("stat -c '%U %a' /run/credentials/rcpt-milter.service/password", "rcpt-milter 400")
	n.shows("rcpt-milter check --live", "may list deleted objects")
	n.judges()
	n.fresh()
}

// restarts is how often the service is restarted while a client asks.
const restarts = 3

// patient checks that no client is rejected while systemd holds the socket and the service
// restarts.
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

// What the package and the daemon own in the file system, except the account.
var (
	packageFiles = []string{"/usr/bin/rcpt-milter", "/lib/systemd/system/rcpt-milter.service",
		"/lib/systemd/system/rcpt-milter.socket",
		"/usr/lib/sysusers.d/rcpt-milter.conf", "/usr/lib/tmpfiles.d/rcpt-milter.conf",
		"/usr/share/man/man8/rcpt-milter.8.gz", "/usr/share/doc/rcpt-milter"}
	dataFiles = []string{testenv.ConfigFile, testenv.StoreDir + "/MANIFEST"}
)

// remove deletes the program. The configuration and the index stay.
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

// stopped checks that no process of ours runs, and that systemd knows no unit of ours.
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

// again installs the package after remove: configuration, index and enabled state are as
// before.
func (n *newcomer) again(deb string) {
	n.receives(deb)
	n.sh("echo | apt install ./rcpt-milter_*.deb")
	n.is("rcpt-milter.service", "UnitFileState", "enabled")
	n.is("rcpt-milter.socket", "UnitFileState", "enabled")
	n.sh("systemctl start rcpt-milter.socket rcpt-milter")
	n.judges()
}

// purge deletes everything except the account and its number.
func (n *newcomer) purge() {
	n.sh("apt purge --yes rcpt-milter")
	n.absent(append(slices.Clone(packageFiles), "/etc/rcpt-milter", testenv.StoreDir,
		"/var/spool/postfix/rcpt-milter", "/run/rcpt-milter")...)
	n.stopped()
	// Files of the administrator: the drop-in, and the password beside it.
	left := n.sh("find /etc /lib /run /usr /var -xdev -name '*rcpt-milter*' ! -path '/var/cache/man/*' ! -path " +
		"'/etc/credstore/*' ! -path '/etc/systemd/system/rcpt-milter.service.d'")
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

// anew installs the package as for the first time: no earlier setting is active.
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

// fromSource installs without a package, on the same machine after another purge.
func (n *newcomer) fromSource() {
	n.sh("apt purge --yes rcpt-milter; userdel rcpt-milter")
	n.absent("/usr/bin/rcpt-milter", "/etc/rcpt-milter", "/var/spool/postfix/rcpt-milter")
	n.reads("From source, without a package")
	binary := filepath.Join(n.t.TempDir(), "rcpt-milter")
	n.here(edited(n.t, n.next("CGO_ENABLED=0 go build ./cmd/rcpt-milter"), "go build ", "go build -o "+binary+" "))
	n.sh("mkdir deploy")
	for from, dir := range map[string]string{binary: "/root/new", "../deploy/systemd": "/root/new/deploy",
		"../deploy/config.yaml": "/root/new/deploy"} {
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
