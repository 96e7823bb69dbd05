package control

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"rcpt-milter/internal/build"
)

// TestUserAgent: the client names the program and its release.
func TestUserAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	agents := make(chan string, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agents <- r.UserAgent()
		w.Write([]byte("{}"))
	})}
	go server.Serve(listener)
	defer server.Close()
	if _, err := NewClient(socket).Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := <-agents, "rcpt-milter/"+build.Release(); got != want {
		t.Errorf("User-Agent %q, want %q", got, want)
	}
}
