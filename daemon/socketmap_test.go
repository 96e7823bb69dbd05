package daemon

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// TestSocketmap checks that a daemon with listen_socketmap answers there from its policy, shows the socket in
// status, follows a reload, and restores a removed socket file.
func TestSocketmap(t *testing.T) {
	dir, err := os.MkdirTemp("", "map") // short, because the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "map.sock")
	d := openConfiguredDaemon(t, "listen_socketmap: unix:"+path)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	ask := func(key string) string {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		request := "recipients " + key
		fmt.Fprintf(c, "%d:%s,", len(request), request)
		length, err := bufio.NewReader(c).ReadString(',')
		if err != nil {
			t.Fatal(err)
		}
		_, reply, _ := strings.Cut(strings.TrimSuffix(length, ","), ":")
		return reply
	}
	for key, want := range map[string]string{"nobody@corp.example": "TEMP ", "postmaster@corp.example": "OK always",
		"nobody@elsewhere.example": "OK not-ours"} {
		if got := ask(key); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	text, err := os.ReadFile(d.reloads.path)
	if err == nil {
		err = os.WriteFile(d.reloads.path, []byte(strings.Replace(string(text), "corp.example: enforce",
			"corp.example: report", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if done := d.reload(); done.Refused != "" || len(done.Restart) > 0 {
		t.Fatalf("reload: %+v", done)
	}
	if got := ask("nobody@corp.example"); got != "OK would-refuse" {
		t.Errorf("after the reload: %q", got)
	}
	s, err := backend{d, time.Now(), time.Now}.Status(t.Context())
	if err != nil || s.Socketmap == nil || *s.Socketmap != (control.SocketmapStatus{OK: 3, Temp: 1}) {
		t.Errorf("status %+v, %v", s.Socketmap, err)
	}
	if len(s.Listeners) < 2 || s.Listeners[1].Name != control.ListenerSocketmap || s.Listeners[1].Limit == 0 {
		t.Errorf("listeners %+v", s.Listeners)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.checkSockets()
	if got := ask("postmaster@corp.example"); got != "OK always" {
		t.Errorf("after its file was removed: %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket of a stopped daemon is still there")
	}
}
