package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rcpt-milter/control"
)

// asNATSServer makes the test binary a NATS server with the configuration of this file.
const asNATSServer = "RCPT_MILTER_FLEET_AS_NATS_SERVER"

// runNATSServer runs a NATS server until it is killed.
func runNATSServer(file string) {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
}

// programDir is the directory of the program, which TestMain removes; empty before it is built.
var programDir string

// program builds the program once, unless there is one, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	if *programFlag != "" {
		return *programFlag, nil
	}
	dir, err := os.MkdirTemp("", "fleet-program")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "rcpt-milter")
	out, err := exec.Command("go", "build", "-o", path, "rcpt-milter/cmd/rcpt-milter").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// host is a place for one process that may be killed and started again.
type host struct {
	t       *testing.T
	name    string
	dir     string
	program string
	args    []string
	env     []string

	mu  sync.Mutex // guards cmd
	cmd *exec.Cmd  // nil if it does not run
}

// newDaemon returns a host of the program with a configuration, which %[1]s in it completes: the
// directory of the host. It does not run yet.
func newDaemon(t *testing.T, dir, name, configuration string) *host {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, name: name, dir: filepath.Join(dir, name), program: path}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("config.yaml", fmt.Sprintf(`listen: unix:%[1]s/milter.sock
socket: {group: ""}
control: unix:%[1]s/control.sock
metrics: ""
store: {dir: %[1]s/store, min_free: 1MiB}
log: {level: debug}
`, h.dir)+configuration)
	h.args = []string{"serve", "--config", filepath.Join(h.dir, "config.yaml")}
	return h
}

func (h *host) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// start starts the process without waiting until it answers. Its log continues.
func (h *host) start() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd != nil {
		return
	}
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(h.program, h.args...)
	cmd.Env = append(os.Environ(), h.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of a test that is killed itself
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.cmd = cmd
}

// kill ends the process at once, as a loss of power does for its memory.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd != nil {
		h.cmd.Process.Kill()
		h.cmd.Wait()
		h.cmd = nil
	}
}

// signal sends a signal if the process runs.
func (h *host) signal(s syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd != nil {
		h.cmd.Process.Signal(s)
	}
}

// pid returns the number of the process; 0 if it does not run.
func (h *host) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return 0
	}
	return h.cmd.Process.Pid
}

// status asks the daemon.
func (h *host) status(ctx context.Context) (control.Status, error) {
	return control.NewClient(filepath.Join(h.dir, "control.sock")).Status(ctx)
}

// command runs a command of the program with the configuration of the host.
func (h *host) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, h.program, append(args, "--config", filepath.Join(h.dir, "config.yaml"))...)
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", h.name, strings.Join(args, " "), err, trouble.String())
	}
	return string(out), err
}

// pollInterval is the pause between two questions while the test waits for other processes.
const pollInterval = 20 * time.Millisecond

// await waits until check returns nil. It returns the last error of check after the limit.
func await(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := errors.New("not checked yet")
	for tick := time.NewTicker(pollInterval); ; {
		err := check(ctx)
		if err == nil {
			tick.Stop()
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("not within %v: %w", limit, last)
		case <-tick.C:
		}
	}
}
