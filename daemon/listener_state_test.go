package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rcpt-milter/config"
	"rcpt-milter/internal/socket"
)

// TestListenerStateAccess: a socket that lost its permissions has them again after the next check, and the log
// says so once.
func TestListenerStateAccess(t *testing.T) {
	dir, err := os.MkdirTemp("", "listener")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "milter.sock")
	l, err := socket.Listen("unix:"+path, socket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log bytes.Buffer
	s := newListenerState("milter", config.Endpoint{Network: "unix", Address: path},
		slog.New(slog.NewTextHandler(&log, nil)))
	s.check(l)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	s.check(l)
	s.check(l)
	if file, err := os.Lstat(path); err != nil || file.Mode().Perm() != 0o660 {
		t.Errorf("after the check: %v, %v", file.Mode(), err)
	}
	if n := strings.Count(log.String(), "socket file had lost its permissions"); n != 1 || s.trouble != "" {
		t.Errorf("trouble %q, logged %d times:\n%s", s.trouble, n, log.String())
	}
}
