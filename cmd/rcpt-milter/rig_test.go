package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

const base = "DC=corp,DC=example"

// rig is a simulated directory and a place for a daemon that follows it.
type rig struct {
	t      testing.TB
	dir    string
	ad     *adsim.Directory
	server *adsim.Server
	config string // path
	ca     string // path
}

// newRig makes a directory with a user, and a configuration; extra lines of YAML go in
// front of it.
func newRig(t testing.TB, extra ...string) *rig {
	t.Helper()
	// The paths of sockets are short: those of t.TempDir are not always.
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, ad: adsim.NewDirectory(adsim.DirectoryConfig{})}
	r.server = adsim.StartTest(t, r.ad, adsim.ServerConfig{})
	ca, err := r.server.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.write("password", r.server.Password()+"\n")
	r.addUser("jane", "smtp:jane.doe@corp.example", "SMTP:Jane@corp.example")
	r.config = r.write("config.yaml", strings.Join(extra, "\n")+fmt.Sprintf(`
listen: unix:%[1]s/milter/milter.sock
socket: {group: ""}
control: unix:%[1]s/run/control.sock
%[2]s
store: {dir: %[1]s/store, min_free: 1MiB}
domains:
  corp.example: enforce
  report.example: report
directories:
  - name: corp
    urls: [%[3]s]
    bind: {dn: %[4]q, password_file: %[1]s/password}
    tls: {ca_file: %[5]s}
    poll: 100ms
removal_grace: 0s
log: {level: debug}
`, dir, "metrics: \"\"", r.server.URL(), r.server.BindDN(), ca))
	r.ca = ca
	return r
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *rig) read(path string) string {
	r.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// edit changes the configuration.
func (r *rig) edit(old, new string) {
	r.t.Helper()
	text, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		r.t.Fatalf("no %q in the configuration", old)
	}
	r.write("config.yaml", strings.ReplaceAll(string(text), old, new))
}

// connections returns how many connections the simulated controller of the first directory has accepted. It first
// waits for those that the daemon makes after a first pass: the confirmer's, and that for the expiry times.
func (r *rig) connections() int {
	r.t.Helper()
	r.waitFor("recipients can be confirmed and the expiry times are read", func(s control.Status) bool {
		e := s.Directories[0].Expiry
		return s.Confirm.Directories[0].DomainController != "" && e != nil && !e.Checked.IsZero()
	})
	return r.server.Stats().Connections
}

func (r *rig) addUser(name string, addresses ...string) adsim.GUID {
	r.t.Helper()
	guid, err := r.ad.Add(adsim.User, "CN="+name+",CN=Users,"+base, adsim.Attrs{"proxyAddresses": addresses})
	if err != nil {
		r.t.Fatal(err)
	}
	return guid
}

// command runs a command to its end.
func (r *rig) command(args ...string) (status int, stdout, stderr string) {
	r.t.Helper()
	return r.commandContext(r.t.Context(), args...)
}

func (r *rig) commandContext(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, trouble bytes.Buffer
	a := &app{stdout: &out, stderr: &trouble, now: time.Now}
	status = a.run(ctx, append(args, "--config", r.config))
	return status, out.String(), trouble.String()
}

// want runs a command that must end with the status, and gives what it printed.
func (r *rig) want(status int, args ...string) string {
	r.t.Helper()
	got, stdout, stderr := r.command(args...)
	if got != status {
		r.t.Errorf("rcpt-milter %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got, status, stdout,
			stderr)
	}
	return stdout + stderr
}

func (r *rig) status() control.Status {
	r.t.Helper()
	_, stdout, stderr := r.command("status", "--json")
	var s control.Status
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		r.t.Fatalf("status --json: %v\n%s%s", err, stdout, stderr)
	}
	return s
}

// scrape is what the daemon tells Prometheus.
func (r *rig) scrape(address string) string {
	r.t.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// running is a daemon under way.
type running struct {
	stop func() // and wait for its end
	end  chan int
	log  *logWatch
}

// serve starts a daemon and waits until it answers.
func (r *rig) serve() *running {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &running{end: make(chan int, 1), log: &logWatch{line: "msg=ready", seen: make(chan struct{})}}
	go func() {
		a := &app{stdout: io.Discard, stderr: d.log, now: time.Now}
		d.end <- a.run(ctx, []string{"serve", "--config", r.config})
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if status := <-d.end; status != exitOK {
			r.t.Errorf("serve ended with status %d\n%s", status, d.log)
		}
	})
	select {
	case <-d.log.seen:
	case status := <-d.end:
		cancel()
		r.t.Fatalf("serve ended with status %d\n%s", status, d.log)
	}
	r.t.Cleanup(d.stop)
	return d
}

// logWatch keeps a log, and tells when a text appears in it.
type logWatch struct {
	mu   sync.Mutex
	text bytes.Buffer
	line string
	seen chan struct{}
	done bool
}

func (w *logWatch) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done && bytes.Contains(b, []byte(w.line)) {
		w.done = true
		close(w.seen)
	}
	return w.text.Write(b)
}

func (w *logWatch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// count waits until the log has a text so many times, for lines may come after the answer that they
// are about. It returns how often the log has it.
func (w *logWatch) count(text string, want int) int {
	for until := time.Now().Add(patience); ; {
		if n := strings.Count(w.String(), text); n >= want || time.Now().After(until) {
			return n
		}
	}
}

// freePort is a free TCP port of the loopback interface.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
