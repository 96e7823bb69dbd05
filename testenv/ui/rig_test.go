package ui

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/control"
	"rcpt-milter/testenv/adsim"
)

// Exit statuses of the program.
const (
	exitOK        = 0
	exitFailure   = 1
	exitTemporary = 2
	exitUsage     = 64
)

// rig is a simulated directory with one user, and a directory for the daemon that reads it.
type rig struct {
	t      *testing.T
	dir    string
	ad     *adsim.Directory
	config string // path
}

// newRig starts the simulated directory and writes the configuration.
func newRig(t *testing.T) *rig {
	t.Helper()
	// Paths of sockets are limited; t.TempDir may exceed the limit.
	dir, err := os.MkdirTemp("", "ui")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, config: filepath.Join(dir, "config.yaml")}
	r.ad = adsim.NewDirectory(adsim.DirectoryConfig{})
	server := adsim.StartTest(t, r.ad, adsim.ServerConfig{})
	ca, err := server.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.addUser("jane", "smtp:jane.doe@corp.example", "SMTP:Jane@corp.example")
	r.write("password", server.Password()+"\n")
	r.write("config.yaml", fmt.Sprintf(`
listen: unix:%[1]s/milter/milter.sock
socket: {group: ""}
control: unix:%[1]s/run/control.sock
metrics: ""
store: {dir: %[1]s/store, min_free: 1MiB}
domains:
  corp.example: enforce
  report.example: report
directories:
  - name: corp
    urls: [%[2]s]
    bind: {dn: %[3]q, password_file: %[1]s/password}
    tls: {ca_file: %[4]s}
    poll: 100ms
`, dir, server.URL(), server.BindDN(), ca))
	return r
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) addUser(name string, addresses ...string) {
	r.t.Helper()
	dn := "CN=" + name + ",CN=Users,DC=corp,DC=example"
	if _, err := r.ad.Add(adsim.User, dn, adsim.Attrs{"proxyAddresses": addresses}); err != nil {
		r.t.Fatal(err)
	}
}

// command returns a command of the program, with the configuration.
func (r *rig) command(args ...string) *exec.Cmd {
	return exec.Command(program, append(args, "--config", r.config)...)
}

// want runs a command that must end with the status, and returns its output.
func (r *rig) want(status int, args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	if got := exitStatus(err); got != status {
		r.t.Errorf("rcpt-milter %s: exit status %d (%v), want %d\n%s", strings.Join(args, " "), got, err, status, out)
	}
	return string(out)
}

// exitStatus returns the exit status of a command, or -1 if a signal ended it or it did not run.
func exitStatus(err error) int {
	if err == nil {
		return exitOK
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode()
	}
	return -1
}

// serve starts the daemon and waits until it is ready. The test's cleanup stops it.
func (r *rig) serve() {
	r.t.Helper()
	cmd := r.command("serve")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	var log bytes.Buffer // read only after ended
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		waiting := true
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if waiting && strings.Contains(lines.Text(), "msg=ready") {
				waiting = false
				close(ready)
			}
		}
	}()
	r.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("the daemon ended: %v\n%s", err, &log)
		}
	})
	select {
	case <-ready:
	case <-ended:
		r.t.Fatalf("the daemon ended before it was ready:\n%s", &log)
	}
}

// milterSession is a session of an MTA with the daemon.
type milterSession struct{ *gomilter.ClientSession }

func (r *rig) milterSession() milterSession {
	r.t.Helper()
	socket := filepath.Join(r.dir, "milter", "milter.sock")
	session, err := gomilter.NewClientWithOptions("unix", socket, gomilter.ClientOptions{}).Session()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { session.Close() })
	return milterSession{session}
}

// want asks for a recipient; code is that of the expected reply, or 0 if the recipient is accepted.
func (s milterSession) want(t *testing.T, recipient string, code int) {
	t.Helper()
	if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient); err != nil {
		t.Fatal(err)
	}
	action, err := s.Rcpt(recipient, nil)
	if err != nil {
		t.Fatal(err)
	}
	if action.SMTPCode != code {
		t.Errorf("RCPT %s: reply %d %s, want %d", recipient, action.SMTPCode, action.SMTPText, code)
	}
}

// fakeDaemon answers the control socket with the functions of the test.
type fakeDaemon struct {
	control.Backend // nil: the tests call no other method
	status          func(context.Context) (control.Status, error)
	sync            func(context.Context, func(control.SyncEvent)) error
	report          control.Report
}

func (d fakeDaemon) Report(context.Context, control.ReportQuery) (control.Report, error) {
	return d.report, nil
}

func (d fakeDaemon) Status(ctx context.Context) (control.Status, error) { return d.status(ctx) }

func (d fakeDaemon) Sync(ctx context.Context, _ control.SyncQuery, progress func(control.SyncEvent)) error {
	return d.sync(ctx, progress)
}

// answerWith serves d on the control socket, in place of a daemon.
func (r *rig) answerWith(d fakeDaemon) {
	r.t.Helper()
	socket := filepath.Join(r.dir, "run", "control.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.NewServer(d, "1.2.3", nil).Serve(ctx, l) }()
	r.t.Cleanup(func() { cancel(); <-ended })
}

// troubledStatus is a status with every kind of problem. The tests of control/console write it as
// JSON into this file.
func troubledStatus(t *testing.T) (s control.Status) {
	t.Helper()
	text, err := os.ReadFile("../../control/console/testdata/status-troubled.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// forwardPage forwards a TCP port of loopback to the socket of the page, as "ssh -L" does, and
// returns its address.
func (r *rig) forwardPage() string {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go r.forward(client)
		}
	}()
	return l.Addr().String()
}

// forward copies between a client and the socket of the page until both have ended.
func (r *rig) forward(client net.Conn) {
	defer client.Close()
	page, err := net.Dial("unix", filepath.Join(r.dir, "run", "page.sock"))
	if err != nil {
		return // the browser reports that there is no answer
	}
	defer page.Close()
	done := make(chan struct{})
	go func() {
		io.Copy(page, client)
		page.(*net.UnixConn).CloseWrite()
		close(done)
	}()
	io.Copy(client, page)
	client.(*net.TCPConn).CloseWrite()
	<-done
}
