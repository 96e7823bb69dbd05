package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/internal/logging"
)

// openTestDaemon opens a daemon whose only domain controller does not answer. change is called before the
// daemon is opened.
func openTestDaemon(t *testing.T, change ...func(*daemon)) *daemon {
	t.Helper()
	return openConfiguredDaemon(t, "", change...)
}

// openConfiguredDaemon is openTestDaemon with additional configuration lines.
func openConfiguredDaemon(t *testing.T, lines string, change ...func(*daemon)) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon") // short, because the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "config.yaml")
	for name, text := range map[string]string{
		"password": "hunter2\n",
		"config.yaml": fmt.Sprintf(`
listen: unix:%[1]s/milter.sock
socket: {group: ""}
control: unix:%[1]s/control.sock
metrics: ""
store: {dir: %[1]s/store, min_free: 1MiB}
domains: {corp.example: enforce}
directories:
  - name: corp
    urls: [ldaps://127.0.0.1:1]
    bind: {dn: svc@corp.example, password_file: %[1]s/password}
%[2]s
`, dir, lines),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{ConfigPath: path, Config: c, Version: "test",
		Log: logging.New(io.Discard, "test", LogOptions(c)), LockWait: time.Second}
	d := newDaemon(o)
	for _, c := range change {
		c(d)
	}
	if err := d.open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func TestRunEndsWithContext(t *testing.T) {
	d := openTestDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.run(ctx); err != nil {
		t.Error(err)
	}
	if done := d.reload(); done.Refused == "" {
		t.Error("a reload after the end of run")
	}
}

// TestRunEndsWithListener checks that a failing listener for Postfix ends the daemon, and that run returns the
// reason.
func TestRunEndsWithListener(t *testing.T) {
	d := openTestDaemon(t)
	d.mtaListeners[0].Close()
	if err := d.run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "milter: ") {
		t.Errorf("run returned %v, want an error of milter", err)
	}
}
