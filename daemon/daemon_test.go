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

// openTestDaemon opens a daemon whose one domain controller does not answer.
func openTestDaemon(t *testing.T) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon") // the path of a socket must be short
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
`, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDaemon(t.Context(), Options{ConfigPath: path, Config: c, Version: "test",
		Log: logging.New(io.Discard, "test", LogOptions(c)), LockWait: time.Second})
	if err != nil {
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

// TestRunEndsWithComponent: a component that fails ends the daemon, and run says which one.
func TestRunEndsWithComponent(t *testing.T) {
	d := openTestDaemon(t)
	d.control.Close()
	if err := d.run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "control: ") {
		t.Errorf("run returned %v, want an error of control", err)
	}
}
