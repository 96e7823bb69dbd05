package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// TestServe is a day of a daemon, seen through the commands.
// TestBlindStatus: status has the lines that make deleted objects visible, ready to be run.
func TestBlindStatus(t *testing.T) {
	r := newRig(t)
	r.ad.WithholdDeleted(true)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	out := r.want(exitOK, "status")
	for _, want := range []string{"dsacls \"CN=Deleted Objects,DC=corp,DC=example\" /takeownership\n",
		"dsacls \"CN=Deleted Objects,DC=corp,DC=example\" /G \"" + r.server.BindDN() + ":LCRP\"\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("status has no %q:\n%s", want, out)
		}
	}
}

// TestBlindAccountForm: status and check --live name the account in the same form.
func TestBlindAccountForm(t *testing.T) {
	r := newRig(t)
	r.ad.WithholdDeleted(true)
	r.addAccount(adsim.Attrs{})
	r.serve()
	r.want(exitOK, "sync", "--wait")
	const want = `/G "CORP\svc-mail:LCRP"`
	if out := r.want(exitOK, "status"); !strings.Contains(out, want) {
		t.Errorf("status has no %q:\n%s", want, out)
	}
	if _, _, out := r.command("check", "--live"); !strings.Contains(out, want) {
		t.Errorf("check --live has no %q:\n%s", want, out)
	}
}

func TestServe(t *testing.T) {
	r := newRig(t)
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	d := r.serve()

	out := r.want(exitOK, "sync", "--wait")
	if !strings.Contains(out, "corp: ") || !strings.Contains(out, ", ok\n") {
		t.Errorf("sync --wait says %q", out)
	}
	for _, c := range []struct {
		address string
		status  int
		want    string
	}{
		{"JANE.DOE@corp.example", exitOK, "in the index (verdict known, row 6)"},
		{"<jane@corp.example>", exitOK, "CN=jane,CN=Users," + base},
		{"nobody@corp.example", exitFailure, "550 5.1.1 <nobody@corp.example>: Recipient address rejected: User " +
			"unknown"},
		{"nobody@report.example", exitOK, "in mode enforce it would be 550 5.1.1"},
		{"nobody@elsewhere.example", exitOK, "verdict not-ours"},
		{"Postmaster@corp.example", exitOK, "verdict always"},
		{"postmaster", exitOK, "verdict always"},
		{"a b@c@corp.example", exitFailure, "550 5.1.1"},
	} {
		if out := r.want(c.status, "lookup", c.address); !strings.Contains(out, c.want) {
			t.Errorf("lookup %s has no %q:\n%s", c.address, c.want, out)
		}
	}
	checkStatus(t, r)
	checkMetrics(t, address)

	late := r.addUser("late", "smtp:late@corp.example")
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitOK, "lookup", "late@corp.example"); !strings.Contains(out, "learned ") ||
		!strings.Contains(out, "USN") {
		t.Errorf("lookup does not tell how it came to know:\n%s", out)
	}
	if err := r.ad.Delete(late); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	if out := r.want(exitFailure, "lookup", "late@corp.example"); !strings.Contains(out, "removed ") ||
		!strings.Contains(out, "by pass") {
		t.Errorf("lookup does not tell of the removal:\n%s", out)
	}
	r.want(exitOK, "sync")
	if out := r.want(exitOK, "sync", "--full", "--wait"); !strings.Contains(out, "corp: full pass") {
		t.Errorf("sync --full --wait says %q", out)
	}

	checkJSON(t, r)
	d.stop()
	for _, socket := range []string{"milter/milter.sock", "run/control.sock"} {
		if _, err := os.Lstat(filepath.Join(r.dir, socket)); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", socket, err)
		}
	}
	for _, command := range [][]string{{"status"}, {"status", "--json"}, {"status", "--nagios"}, {"sync", "--wait"},
		{"compare"}, {"reload"}, {"removals", "approve"}} {
		r.want(exitNotReachable, command...)
	}
}

func checkStatus(t *testing.T, r *rig) {
	t.Helper()
	s := r.status()
	d := s.Directories[0]
	if s.State != control.Fresh || s.Addresses != 2 || s.Objects != 1 || s.Domains["corp.example"] != 2 ||
		s.Digest == "" ||
		s.Modes["report.example"] != "report" || s.Started.IsZero() || s.StoreVerified.IsZero() ||
		s.Version != programVersion() {
		t.Errorf("status: %+v", s)
	}
	if d.Name != "corp" || d.State != control.Fresh || d.DomainController != r.ad.HostName() ||
		d.USN != r.ad.HighestUSN() ||
		d.InvocationID != r.ad.InvocationID().String() || d.LastFull == nil || d.LastFull.Added != 2 ||
		d.LastFull.Result != control.ResultOK ||
		d.FullPassReason == "" || d.LastError != "" || d.LastSuccess.IsZero() || d.DeletedObjectsVisible == nil ||
		!*d.DeletedObjectsVisible {
		t.Errorf("status of the directory: %+v", d)
	}
	if out := r.want(exitOK, "status"); !strings.Contains(out, "State: fresh\n") || !strings.Contains(out,
		"2 addresses of 1 object\n") {
		t.Errorf("status:\n%s", out)
	}
}

func checkJSON(t *testing.T, r *rig) {
	t.Helper()
	var answer control.LookupAnswer
	out := r.want(exitOK, "lookup", "Jane@corp.example", "--json", "--client", "192.0.2.1", "--authenticated")
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("lookup --json: %v in\n%s", err, out)
	}
	want := control.LookupAnswer{
		Address: "Jane@corp.example", Canonical: "jane@corp.example", Domain: "corp.example", Mode: "enforce",
		Outcome: control.Accepted, Reply: "continue", Verdict: "known", Rule: 6, Reason: "in the index",
		Matched: "jane@corp.example", Owners: answer.Owners,
		Harvest: &control.HarvestNetwork{Network: "192.0.2.0/24"}, Assumed: []string{}, History: []control.JournalRow{},
	}
	if d := cmp.Diff(want, answer); d != "" {
		t.Errorf("lookup --json (-want +got):\n%s", d)
	}
	if len(answer.Owners) != 1 {
		t.Fatalf("owners: %+v", answer.Owners)
	}
	o := answer.Owners[0]
	if o.Directory != "corp" || o.GUID == "" || o.DN != "CN=jane,CN=Users,"+base || o.Class != "user" ||
		o.Learned.IsZero() ||
		o.Pass != 1 || o.DomainController != r.ad.HostName() || o.USN == 0 {
		t.Errorf("owner: %+v", o)
	}
}

func checkMetrics(t *testing.T, address string) {
	t.Helper()
	for path, want := range map[string]string{
		"/metrics": `rcpt_milter_sync_passes_total{directory="corp",kind="full",result="ok"} 1`,
		"/healthz": "ok",
		"/readyz":  "ready: the index is fresh",
	} {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: %s, %v, no %q in\n%s", path, response.Status, err, want, body)
		}
	}
}

// TestRestart: with an index on disk the daemon answers at once, whatever the
// directory does.
func TestRestart(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.server.Down()
	r.serve()
	r.want(exitOK, "lookup", "jane@corp.example")
	r.want(exitFailure, "lookup", "nobody@corp.example")
	if out := r.want(exitFailure, "sync", "--wait"); !strings.Contains(out, "rcpt-milter: directory corp: ") {
		t.Errorf("sync --wait says %q", out)
	}
	if out := r.want(exitFailure, "status"); !strings.Contains(out, "failing since") {
		t.Errorf("status:\n%s", out)
	}
	if err := r.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "status")
}

// TestFirstStartWithoutDirectory: without any index no recipient is rejected, and the daemon
// recovers by itself.
func TestFirstStartWithoutDirectory(t *testing.T) {
	r := newRig(t)
	r.server.Down()
	r.serve()
	if out := r.want(exitTemporary, "lookup", "jane@corp.example"); !strings.Contains(out, "451 4.3.0") ||
		!strings.Contains(out, "corp is not ready") {
		t.Errorf("lookup:\n%s", out)
	}
	r.want(exitOK, "lookup", "postmaster@corp.example")
	r.want(exitTemporary, "status")
	if err := r.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "jane@corp.example")
	r.want(exitFailure, "lookup", "nobody@corp.example")
}

// TestBadDays: if a directory cannot be read, the daemon still answers, and reports the error
// in one sentence.
func TestBadDays(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(r *rig)
		want string
	}{
		{"wrong password", func(r *rig) { r.write("password", "wrong") }, "rejected: the name or the password"},
		{"empty password file", func(r *rig) { r.write("password", "") }, "is empty"},
		{"damaged CA file", func(r *rig) { r.write("other.pem", "no certificate"); r.edit(r.ca, r.dir+"/other.pem") },
			"no certificate in PEM form"},
		{"unreachable", func(r *rig) { r.server.Down() }, "connect"},
	} {
		r := newRig(t)
		c.make(r)
		d := r.serve()
		out := r.want(exitFailure, "sync", "--wait")
		if !strings.Contains(out, c.want) || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: sync --wait says %q, want one line with %q", c.what, out, c.want)
		}
		if s := r.status(); s.State != control.NotReady || !strings.Contains(s.Directories[0].LastError, c.want) {
			t.Errorf("%s: status %s, last error %q, want %q", c.what, s.State, s.Directories[0].LastError, c.want)
		}
		r.want(exitTemporary, "lookup", "jane@corp.example")
		d.stop()
	}
}

// TestServeRefuses: what a daemon cannot start with. Nothing it did not make changes.
func TestServeRefuses(t *testing.T) {
	r := newRig(t)
	d := r.serve()
	second := func(name string) *rig {
		other := newRig(t)
		text, err := os.ReadFile(other.config)
		if err != nil {
			t.Fatal(err)
		}
		other.config = other.write(name, string(text))
		return other
	}
	for _, c := range []struct {
		what   string
		edit   func(other *rig)
		status int
		want   string
	}{
		{"store in use", func(o *rig) { o.edit(o.dir+"/store", r.dir+"/store") }, exitFailure,
			"rcpt-milter: store " + r.dir + "/store: another process has the store open; stop that process, or set " +
				"another store.dir\n"},
		{"control socket in use", func(o *rig) { o.edit(o.dir+"/run", r.dir+"/run") }, exitFailure,
			`rcpt-milter: control: listen "unix:` + r.dir +
				`/run/control.sock": another process listens there; stop it or choose another address` + "\n"},
		{"milter socket in use", func(o *rig) { o.edit(o.dir+"/milter", r.dir+"/milter") }, exitFailure,
			`rcpt-milter: listen "unix:` + r.dir +
				`/milter/milter.sock": another process listens there; stop it or choose another address` + "\n"},
		{"a file in the way", func(o *rig) { o.write("file", "precious"); o.edit("/run/control.sock", "/file") },
			exitFailure, "/file exists and is not a socket (-rw-------); move it away or choose another path\n"},
		{"unknown key", func(o *rig) { o.edit("poll:", "pol:") }, exitConfig,
			`config.yaml:15:5: unknown key "pol" in directories[0]; did you mean "poll"?` + "\n"},
		{"password file missing", func(o *rig) { o.edit("/password}", "/passwort}") }, exitConfig,
			"directories[0].bind.password_file: the password file DIR/passwort does not exist\n"},
		{"unknown group", func(o *rig) { o.edit(`group: ""`, "group: no-such-group") }, exitConfig,
			`config.yaml:3:17: socket.group: group "no-such-group" does not exist on this host; use a group of Postfix, or ` +
				`"" for the group of the daemon` + "\n"},
		{"store on a file", func(o *rig) { o.edit("/store,", "/password,") }, exitFailure,
			"rcpt-milter: store DIR/password: not a directory; set store.dir to a directory\n"},
	} {
		o := second("config.yaml")
		c.edit(o)
		status, stdout, stderr := o.command("serve")
		want := strings.ReplaceAll(c.want, "DIR", o.dir)
		lines := strings.SplitAfter(strings.TrimSuffix(stderr, "\n"), "\n")
		if last := lines[len(lines)-1] + "\n"; status != c.status || stdout != "" || !strings.HasSuffix(last, want) ||
			!strings.HasPrefix(last, "rcpt-milter: ") {
			t.Errorf("%s: exit status %d, %q, want %d and %q", c.what, status, stdout+stderr, c.status, want)
		}
		if text, err := os.ReadFile(filepath.Join(o.dir, "file")); err == nil && string(text) != "precious" {
			t.Errorf("%s: the file now has %q", c.what, text)
		}
	}
	// The first one did not notice.
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "jane@corp.example")
	d.stop()
}

// TestTwoDirectories: only the state of a directory that may own the domain matters.
func TestTwoDirectories(t *testing.T) {
	r := newRig(t)
	r.edit("  report.example: report\ndirectories:\n",
		"  lab.example: enforce\ndirectories:\n  - name: lab\n    domains: [lab.example]\n"+
			"    urls: [ldaps://"+freePort(t)+"]\n    bind: {dn: x, password_file: "+r.dir+"/password}\n")
	r.edit("    poll: 100ms\n", "    poll: 100ms\n    domains: [corp.example]\n")
	r.serve()
	if out := r.want(exitFailure, "sync", "--wait"); !strings.Contains(out, "corp: ") || !strings.Contains(out,
		"rcpt-milter: directory lab: ") {
		t.Errorf("sync --wait says\n%s", out)
	}
	r.want(exitFailure, "lookup", "nobody@corp.example")
	if out := r.want(exitTemporary, "lookup", "nobody@lab.example"); !strings.Contains(out, "lab is not ready") {
		t.Errorf("lookup says\n%s", out)
	}
	r.want(exitTemporary, "status")
}

// TestStaleSockets: a daemon that was killed leaves its sockets behind.
func TestStaleSockets(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"milter/milter.sock", "run/control.sock"} {
		path = filepath.Join(r.dir, path)
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	r.serve()
	r.want(exitOK, "sync", "--wait")
	info, err := os.Stat(filepath.Join(r.dir, "run/control.sock"))
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("control socket: %v, %v", info.Mode(), err)
	}
}

// TestStopBeforeStart: a daemon that waits for the store ends when it is stopped.
func TestStopBeforeStart(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status, _, stderr := r.commandContext(ctx, "serve"); status != exitOK {
		t.Errorf("exit status %d\n%s", status, stderr)
	}
}
