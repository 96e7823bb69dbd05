package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"rcpt-milter/testenv"
)

// laboratory is everything that runs during a benchmark.
type laboratory struct {
	options
	dir     string
	result  *result
	setup   *testenv.Setup
	release func()

	directory   *directoryProcess
	daemon      *exec.Cmd
	log         *bytes.Buffer  // of the daemon
	ports       map[string]int // of smtpd, by candidate
	container   string         // with Postfix and the milters in C
	harness     *testenv.Harness
	metricsPort int             // of the daemon under load
	sambaHost   string          // address of its domain controller
	failed      map[string]bool // recipients of the candidate with cached probes whose probes failed
	asked       atomic.Int64    // recipients that sessions of a candidate without cached probes have for themselves
}

// build builds the image and the daemon, and starts Postfix and the milters in C.
func (l *laboratory) build(ctx context.Context) (err error) {
	l.setup, err = testenv.Open(ctx, nil)
	if err != nil {
		return err
	}
	if l.release, err = l.setup.Own(ctx, nil); err != nil {
		return err
	}
	if err := l.setup.Build(ctx, testenv.Bench); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", l.path(daemonProgram),
		"./cmd/rcpt-milter")
	build.Dir = l.setup.Root()
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return l.startPostfix(ctx)
}

const configuration = `listen: unix:%[1]s/rcpt.sock
listen_socketmap: unix:%[1]s/map.sock
socket: {group: "", mode: "0666"}
control: unix:%[1]s/control.sock
store: {dir: %[1]s/store}
domains: {corp.example: enforce}
late_after: 23h
stale_after: 24h
removal_grace: 0s
confirm: {enabled: false}
directories:
  - name: corp
    urls: [%[2]q]
    bind: {dn: %[3]q, password_file: %[1]s/password}
    tls: {ca_file: %[1]s/ca.pem}
    poll: 1h
    notify: false
    removal_guard: {percent: 100, count: 100000000, share: 100}
log: {format: text, level: warn}
`

// fillIndex starts the daemon beside a simulated directory and waits for its first full pass.
func (l *laboratory) fillIndex(ctx context.Context) (err error) {
	if l.directory, err = startDirectory(ctx, l.addresses/addressesPerObject, l.dir); err != nil {
		return err
	}
	config := fmt.Sprintf(configuration, l.dir, l.directory.URL, l.directory.BindDN)
	if l.load > 0 {
		if l.metricsPort, err = freePort(); err != nil {
			return err
		}
		config += fmt.Sprintf(loadConfiguration, guesses, l.metricsPort)
	} else {
		config += "metrics: \"\"\n"
	}
	for name, text := range map[string]string{
		"config.yaml": config, "password": l.directory.Password + "\n", "ca.pem": l.directory.CA,
	} {
		if err := os.WriteFile(l.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	l.log = &bytes.Buffer{}
	l.daemon = exec.Command(l.path(daemonProgram), "serve", "--config", l.path("config.yaml"))
	l.daemon.Stdout, l.daemon.Stderr = l.log, l.log
	if err := l.daemon.Start(); err != nil {
		return err
	}
	pass, err := l.awaitPass(ctx, true, 0)
	if err != nil {
		return err
	}
	l.result.add(value{Quantity: "first full pass, seconds", Candidate: daemonName, Rounds: []float64{pass.Seconds}})
	for _, m := range [][2]string{
		{"first full pass, peak memory, MiB", "VmHWM"},
		{"resident memory after the first full pass, MiB", "VmRSS"},
	} {
		kib, err := memory(l.daemon.Process.Pid, m[1])
		if err != nil {
			return err
		}
		l.result.add(value{Quantity: m[0], Candidate: daemonName, Rounds: []float64{float64(kib) / 1024}})
	}
	cpu, err := processTime(l.daemon.Process.Pid)
	if err != nil {
		return err
	}
	l.result.add(value{Quantity: "first full pass, CPU seconds", Candidate: daemonName,
		Rounds: []float64{cpu.Seconds()}})
	size, err := onDisk(l.path("store"))
	if err != nil {
		return err
	}
	l.result.add(value{Quantity: "disk of the store, bytes per address", Candidate: daemonName,
		Rounds: []float64{float64(size) / float64(l.addresses)}})
	return nil
}

// passStatus is what `status --json` says of a pass.
type passStatus struct {
	Number  uint64  `json:"number"`
	Seconds float64 `json:"seconds"`
	Changed int64   `json:"changed"`
	Result  string  `json:"result"`
}

// awaitPass waits for a good pass with a greater number.
func (l *laboratory) awaitPass(ctx context.Context, full bool, after uint64) (passStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		var status struct {
			Directories []struct {
				LastIncremental *passStatus `json:"last_incremental"`
				LastFull        *passStatus `json:"last_full"`
				LastError       string      `json:"last_error"`
			} `json:"directories"`
		}
		out, err := l.command(ctx, "status", "--json")
		if err == nil {
			err = json.Unmarshal(out, &status)
		}
		if err == nil && len(status.Directories) == 1 {
			d := status.Directories[0]
			pass := d.LastIncremental
			if full {
				pass = d.LastFull
			}
			if pass != nil && pass.Number > after && pass.Result == "ok" {
				return *pass, nil
			}
			if d.LastError != "" {
				return passStatus{}, fmt.Errorf("the pass failed: %s", d.LastError)
			}
		}
		select {
		case <-ctx.Done():
			return passStatus{}, fmt.Errorf("no pass ended: %w; the daemon's log:\n%s", ctx.Err(), l.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// command runs the daemon's command line. The commands that print a state have a status of
// their own, which is no failure here.
func (l *laboratory) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, l.path(daemonProgram), append(args, "--config", l.path("config.yaml"))...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(out) > 0 {
		err = nil
	}
	return out, err
}

// incrementalPasses measures passes without a change and with 100 changes.
func (l *laboratory) incrementalPasses(ctx context.Context) error {
	for _, c := range []struct {
		name    string
		changes int
	}{{"incremental pass without a change, seconds", 0}, {"incremental pass of 100 changes, seconds", 100}} {
		v := value{Quantity: c.name, Candidate: daemonName}
		for range l.rounds {
			if err := l.directory.change(c.changes); err != nil {
				return err
			}
			if _, err := l.command(ctx, "sync", "--wait"); err != nil {
				return err
			}
			pass, err := l.awaitPass(ctx, false, 0)
			if err != nil {
				return err
			}
			if pass.Changed != int64(c.changes) {
				return fmt.Errorf("the pass has %d changed objects, want %d", pass.Changed, c.changes)
			}
			v.Rounds = append(v.Rounds, pass.Seconds)
		}
		l.result.add(v)
	}
	// The directory must not take part in what follows.
	return l.directory.close()
}

func (l *laboratory) close() (err error) {
	if l.directory != nil {
		err = l.directory.close()
	}
	if l.daemon != nil && l.daemon.Process != nil {
		l.daemon.Process.Signal(syscall.SIGTERM)
		if e := l.daemon.Wait(); e != nil {
			err = errors.Join(err, fmt.Errorf("daemon: %w; its log ends:\n%s", e, tail(l.log.String())))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if l.container != "" {
		err = errors.Join(err, docker(ctx, "rm", "--force", "--volumes", l.container))
	}
	if l.harness != nil {
		err = errors.Join(err, l.setup.Down(ctx))
	}
	if l.release != nil {
		l.release()
	}
	return err
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

func docker(ctx context.Context, args ...string) error {
	_, err := dockerOutput(ctx, args...)
	return err
}

func dockerOutput(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// memory returns a field of /proc/PID/status, in KiB.
func memory(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, field+":"); found {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in /proc/%d/status", field, pid)
}
