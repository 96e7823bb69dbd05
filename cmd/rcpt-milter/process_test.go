package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// asDaemon makes the test binary the program itself, for tests that need daemons in
// processes of their own.
const asDaemon = "RCPT_MILTER_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("LISTEN_FDS") != "" { // sockets are for the process of this number
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	main()
}

// process is a daemon in a process of its own.
type process struct {
	r     *rig
	cmd   *exec.Cmd
	log   *logWatch
	ended chan error
}

// spawn starts a daemon. It need not be ready yet.
func (r *rig) spawn(sockets ...*os.File) *process {
	r.t.Helper()
	return r.spawnTo(nil, sockets...)
}

// spawnTo starts a daemon whose standard error is a file; nil is a log that the test reads.
func (r *rig) spawnTo(stderr *os.File, sockets ...*os.File) *process {
	r.t.Helper()
	return r.spawnCommand(exec.Command(os.Args[0], "serve", "--config", r.config), stderr, sockets...)
}

// spawnLimited starts a daemon that may have so many file descriptors.
func (r *rig) spawnLimited(descriptors int) *process {
	r.t.Helper()
	return r.spawnCommand(exec.Command("sh", "-c", `ulimit -n "$1" && exec "$0" serve --config "$2"`, os.Args[0],
		strconv.Itoa(descriptors), r.config), nil)
}

func (r *rig) spawnCommand(cmd *exec.Cmd, stderr *os.File, sockets ...*os.File) *process {
	r.t.Helper()
	p := &process{r: r, cmd: cmd, ended: make(chan error, 1),
		log: &logWatch{line: "msg=ready", seen: make(chan struct{})}}
	p.cmd.Env = append(os.Environ(), asDaemon+"=1")
	if len(sockets) > 0 {
		p.cmd.ExtraFiles = sockets
		p.cmd.Env = append(p.cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES=milter")
	}
	if p.cmd.Stderr = p.log; stderr != nil {
		p.cmd.Stderr = stderr
	}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wait()
	})
	return p
}

// ready waits until the daemon answers.
func (p *process) ready() *process {
	p.r.t.Helper()
	select {
	case <-p.log.seen:
	case err := <-p.ended:
		p.ended <- err
		p.r.t.Fatalf("the daemon ended: %v\n%s", err, p.log)
	}
	return p
}

func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// wait waits for the end of the process.
func (p *process) wait() error {
	err := <-p.ended
	p.ended <- err
	return err
}

// stop tells the daemon to end, and waits.
func (p *process) stop() {
	p.r.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil || bytes.Contains([]byte(p.log.String()), []byte("cut off")) {
		p.r.t.Errorf("the daemon ended: %v\n%s", err, p.log)
	}
}

// unixSocket is what systemd would hold open.
func (r *rig) unixSocket() *os.File {
	r.t.Helper()
	os.MkdirAll(r.dir+"/milter", 0o755)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.milterSocket(), Net: "unix"})
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { f.Close() })
	return f
}
