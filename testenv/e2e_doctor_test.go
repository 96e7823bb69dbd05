package testenv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// Paths in mx for the tests of this file. They plant problems in copies of the Postfix
// configuration; the active one does not change.
const (
	wardDir  = "/tmp/doctor"
	toolPath = "/usr/local/bin/rcpt-milter"
	// doctorDeadline limits some dozens of runs, each with several commands of Postfix.
	doctorDeadline = 8 * time.Minute
)

// clinic is mx with our command line. It reaches the daemon through a control socket on a
// shared volume.
type clinic struct{ *edge }

// finding is one result of doctor --json.
type finding struct {
	Name, Level, What, Why string
	Fix                    []string
}

// openClinic starts the daemon with the configuration of the harness, changed by the edits.
func openClinic(t *testing.T, edits ...func(string) string) clinic {
	e := require(t)
	ctx, cancel := context.WithTimeout(t.Context(), doctorDeadline)
	t.Cleanup(cancel)
	e.ctx = ctx
	c := clinic{e}
	e.must(e.CopyTool(e.ctx, testenv.MX, toolPath))
	shared := testenv.Replace("control: unix:/run/rcpt-milter/control.sock",
		"control: unix:/var/spool/postfix/rcpt-milter/control.sock")
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, append(edits, shared)...))
	e.must(e.Start(e.ctx, testenv.Milter))
	text, err := e.ReadFile(e.ctx, testenv.Milter, testenv.ConfigFile)
	e.must(err)
	c.root("mkdir -p /etc/rcpt-milter")
	e.must(e.WriteFile(e.ctx, testenv.MX, testenv.ConfigFile, text))
	_, err = e.AwaitFresh(e.ctx)
	e.must(err)
	return c
}

// root runs a shell script in mx, which must succeed, and returns its output.
func (e *edge) root(script string) string {
	e.t.Helper()
	out, err := e.ExecInput(e.ctx, testenv.MX, script+"\n", "sh", "-e")
	e.must(err)
	if out.Status != 0 {
		e.t.Fatalf("%s: exit status %d: %s%s", script, out.Status, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// examined is the result of one run.
type examined struct {
	status   int
	findings []finding
}

// examine copies the configuration for each script, runs the script in the copy, and runs
// doctor on it. An empty script changes nothing. All runs share one command, because entering
// a container takes longer than a run of doctor.
func (c clinic) examine(fresh bool, scripts ...string) []examined {
	c.t.Helper()
	var all strings.Builder
	for i, script := range scripts {
		dir := fmt.Sprintf("%s/%d", wardDir, i)
		if fresh {
			fmt.Fprintf(&all, "rm -rf %[1]s && mkdir -p %[1]s && cp -a /etc/postfix/. %[1]s\n", dir)
		}
		fmt.Fprintf(&all, "cd %s\n%s\n", dir, script)
		fmt.Fprintf(&all, "if %s doctor --json --postfix-config %s > doctor.json; then echo 0; else echo $?; fi > "+
			"doctor.status\n", toolPath, dir)
	}
	for i := range scripts {
		fmt.Fprintf(&all, "cd %s/%d; tr -d '\\n' < doctor.json; echo; cat doctor.status\n", wardDir, i)
	}
	lines := strings.Split(c.root("{\n"+all.String()+"}"), "\n")
	if len(lines) < 2*len(scripts) {
		c.t.Fatalf("doctor ran %d times, want %d:\n%s", len(lines)/2, len(scripts), strings.Join(lines, "\n"))
	}
	lines = lines[len(lines)-1-2*len(scripts):] // scripts may print as well
	var results []examined
	for i := range scripts {
		var got struct{ Findings []finding }
		if err := json.Unmarshal([]byte(lines[2*i]), &got); err != nil {
			c.t.Fatalf("doctor --json: %v\n%s", err, lines[2*i])
		}
		status, err := strconv.Atoi(lines[2*i+1])
		c.must(err)
		results = append(results, examined{status, got.Findings})
	}
	return results
}

// fix returns the postconf commands of a finding as a script.
func (f finding) fix() string {
	var commands []string
	for _, line := range f.Fix {
		if strings.HasPrefix(line, "postconf ") {
			commands = append(commands, line)
		}
	}
	return strings.Join(commands, "\n")
}

// plantedProblems are common mistakes, as shell commands for the directory of a copy of the
// configuration. want is the name of the finding; healed means that the commands of doctor fix
// it.
var plantedProblems = []struct {
	what, script, want string
	healed             bool
}{
	{"not in smtpd_milters", `postconf -c . -e 'smtpd_milters ='`, "milter-missing", true},
	{"only other milters", `postconf -c . -e 'smtpd_milters = inet:localhost:8891'`, "milter-missing", true},
	{"overridden on port 25", `postconf -c . -P 'smtp/inet/smtpd_milters='`, "milter-missing", true},
	{"no_milters", `postconf -c . -e 'receive_override_options = no_milters'`, "milter-missing", true},
	{"in non_smtpd_milters", `postconf -c . -e 'non_smtpd_milters = $smtpd_milters'`, "milter-non-smtpd", true},
	{"absolute path in the " +
		"chroot", `postconf -c . -e 'smtpd_milters = { unix:/var/spool/postfix/rcpt-milter/milter.sock, ` +
		`default_action=tempfail }'`, "socket-path", true},
	{"mistyped path", `postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.socket, default_action=tempfail }'`,
		"socket-path", true},
	{"default action unset", `postconf -c . -e 'smtpd_milters = unix:rcpt-milter/milter.sock'`, "default-action", true},
	{"default action accept",
		`postconf -c . -e 'smtpd_milters = unix:rcpt-milter/milter.sock' 'milter_default_action = accept'`,
		"default-action", true},
	{"its own default action " +
		"accept", `postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, default_action=accept }'`,
		"default-action", true},
	{"default action reject",
		`postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, default_action=reject }'`,
		"default-action", true},
	{"command timeout of 1 " +
		"s", `postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, command_timeout=1s, ` +
		`default_action=tempfail }'`, "timeout", true},
	{"connect timeout of an " +
		"hour", `postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, connect_timeout=1h, ` +
		`default_action=tempfail }'`, "timeout", true},
	{"protocol 2", `postconf -c . -e 'milter_protocol = 2'`, "protocol", true},
	{"on submission", `printf '465 inet n - y - - smtpd\n' >> master.cf`, "milter-submission", true},
	{"on submission beside a signer", `printf '465 inet n - y - - smtpd\n' >> master.cf
postconf -c . -e 'smtpd_milters = { unix:rcpt-milter/milter.sock, default_action=tempfail }, { inet:localhost:8891, default_action=accept }, inet:localhost:8892'`, "milter-submission", true},
	{"behind amavis", `printf '127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n' >> master.cf`,
		"milter-reinjection", true},
	{"relayed and not served",
		`postconf -c . -e 'relay_domains = corp.example, report.example, pass.example, .sub.example, elsewhere.example'`,
		"relayed-not-served", false},
	{"relayed by a table", `printf 'corp.example x\nreport.example x\npass.example x\nelsewhere.example x\n' > relay && postmap relay
postconf -c . -e "relay_domains = .sub.example, hash:$PWD/relay"`, "relayed-not-served", false},
	{"served and not relayed", `postconf -c . -e 'relay_domains = corp.example, pass.example, .sub.example'`,
		"served-not-relayed", true},
	{"an alias that AD lacks", `printf 'catalogue@corp.example x@corp.example\n' > virtual && postmap virtual
postconf -c . -e "virtual_alias_maps = hash:$PWD/virtual"`, "alias-not-accepted", false},
	{"an alias in texthash behind proxymap", `printf 'old@corp.example x@corp.example\n' > canonical
postconf -c . -e "recipient_canonical_maps = proxy:texthash:$PWD/canonical"`, "alias-not-accepted", false},
	{"an inline alias", `postconf -c . -e 'virtual_alias_maps = inline:{ {fair-2019@corp.example=x@corp.example} }'`,
		"alias-not-accepted", false},
	{"a domain that is rewritten", `printf '@corp.example @pass.example\n' > canonical && postmap canonical
postconf -c . -e "canonical_maps = hash:$PWD/canonical"`, "domain-rewritten", false},
	{"a map of patterns", `printf '/^x@corp/ y@corp.example\n' > virtual.regexp
postconf -c . -e "virtual_alias_maps = regexp:$PWD/virtual.regexp"`, "map-unreadable", false},
	{"a map that is not there", `postconf -c . -e "virtual_alias_maps = hash:$PWD/none"`, "map-broken", false},
	{"probes from an address that AD lacks", `postconf -c . -e 'myorigin = corp.example'`, "probe-sender", false},
	{"a thousand more processes", `postconf -c . -e 'default_process_limit = 3000'`, "connections", false},
	{"any number of processes", `sed -i 's/^smtp  *inet.*/smtp inet n - y - 0 smtpd/' master.cf`, "connections", false},
	{"soft_bounce", `postconf -c . -e 'soft_bounce = yes'`, "soft-bounce", true},
	{"hard error limit of 3", `postconf -c . -e 'smtpd_hard_error_limit = 3'`, "error-limit", true},
	{"soft error limit of 2", `postconf -c . -e 'smtpd_soft_error_limit = 2' 'smtpd_error_sleep_time = 1s'`,
		"error-limit", true},
	{"an old table", `printf 'ann@corp.example x\n' > relay_recipients && postmap relay_recipients
postconf -c . -e "relay_recipient_maps = hash:$PWD/relay_recipients"`, "old-table", false},
	{"a socketmap that the daemon does not have",
		`postconf -c . -e 'relay_recipient_maps = ` + mapTable + `'`, "socketmap-missing", false},
}

// TestDoctor plants each problem in a real Postfix. It checks the findings, and whether the
// proposed commands fix the problem.
func TestDoctor(t *testing.T) {
	c := openClinic(t)
	scripts := []string{""}
	for _, p := range plantedProblems {
		scripts = append(scripts, p.script)
	}
	results := c.examine(true, scripts...)
	before := results[0].findings
	for _, f := range before {
		// the harness has these
		if !strings.Contains("mode-report role-ownerless", f.Name) && !strings.Contains(f.What, "sub.example") {
			t.Errorf("nothing is planted, and doctor finds %+v", f)
		}
	}
	fixes := []string{""}
	for i, p := range plantedProblems {
		fixes = append(fixes, "")
		if found := added(before, results[i+1].findings); p.healed && len(found) > 0 {
			fixes[i+1] = found[0].fix()
		}
	}
	after := c.examine(false, fixes...)
	var table strings.Builder
	for i, p := range plantedProblems {
		found, left := added(before, results[i+1].findings), added(before, after[i+1].findings)
		result := "found"
		switch {
		case len(found) == 0 || found[0].Name != p.want:
			result = "NOT FOUND"
			t.Errorf("%s: doctor finds %+v, want %s", p.what, found, p.want)
		case len(found) > 1:
			result += fmt.Sprintf(", and %d more", len(found)-1)
			t.Errorf("%s: doctor finds %+v, want %s alone", p.what, found, p.want)
		case found[0].Level == "problem" && results[i+1].status != 1:
			t.Errorf("%s: exit status %d", p.what, results[i+1].status)
		}
		if p.healed && len(left) > 0 {
			result += ", not fixed"
			t.Errorf("%s: after %q doctor finds %+v", p.what, fixes[i+1], left)
		} else if p.healed {
			result += ", fixed by its own words"
		}
		fmt.Fprintf(&table, "%-40s %-20s %s\n", p.what, p.want, result)
	}
	t.Logf("planted, and found or not:\n%s", &table)
}

// added returns the findings that were not there before.
func added(before, after []finding) []finding {
	return slices.DeleteFunc(slices.Clone(after), func(f finding) bool {
		return slices.ContainsFunc(before, func(b finding) bool {
			return b.Name == f.Name && (b.What == f.What || f.Name == "role-ownerless") // an alias may be for them, too
		})
	})
}

// TestDoctorSocket: problems of the socket itself, and of the daemon behind it.
func TestDoctorSocket(t *testing.T) {
	c := openClinic(t)
	const socket = "/var/spool/postfix/rcpt-milter/milter.sock"
	before := c.examine(true, "")[0].findings
	for _, p := range []struct{ what, spoil, fix, want string }{
		{"mode of the socket", "chmod 600 " + socket, "chmod 660 " + socket, "socket-not-writable"},
		{"group of the socket", "chgrp root " + socket, "chgrp postfix " + socket, "socket-not-writable"},
		{"mode of its directory", "chmod 700 /var/spool/postfix/rcpt-milter",
			"chmod 2750 /var/spool/postfix/rcpt-milter", "socket-not-writable"},
		{"no socket", "mv " + socket + " " + socket + ".away", "mv " + socket + ".away " + socket, "socket-missing"},
	} {
		var found []finding
		for range 5 { // the daemon restores mode and group of its socket, perhaps before doctor looks
			if found = added(before, c.examine(true, p.spoil)[0].findings); len(found) > 0 {
				break
			}
		}
		c.root(p.fix)
		if len(found) != 1 || found[0].Name != p.want {
			t.Errorf("%s: doctor finds %+v, want %s", p.what, found, p.want)
		}
	}
	c.must(c.Kill(c.ctx, testenv.Milter))
	var names []string
	for _, f := range added(before, c.examine(true, "")[0].findings) {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"daemon-silent", "socket-deaf"}) {
		t.Errorf("with the daemon killed doctor finds %q", names)
	}
	out, err := c.Exec(c.ctx, testenv.MX, toolPath, "doctor")
	c.must(err)
	if out.Status != 1 || !strings.Contains(out.Stdout, "problem: the daemon does not answer") {
		t.Errorf("doctor ends with %d:\n%s%s", out.Status, out.Stdout, out.Stderr)
	}
	t.Log(out.Stdout)
}
