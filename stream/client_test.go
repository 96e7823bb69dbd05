package stream

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rcpt-milter/directory"
)

// silentURLs returns URLs of listeners that accept connections and send nothing. reached receives a value for
// each connection.
func silentURLs(t *testing.T, n int) (urls []string, reached <-chan struct{}) {
	t.Helper()
	accepted := make(chan struct{}, 1000)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				accepted <- struct{}{}
			}
		}()
		urls = append(urls, "nats://"+l.Addr().String())
	}
	return urls, accepted
}

// TestSilentEngine connects to engines that accept connections and send nothing. They must not block Status, an
// operation with a deadline, or Close.
func TestSilentEngine(t *testing.T) {
	urls, reached := silentURLs(t, 3)
	began := time.Now()
	client, err := Connect(Config{URLs: urls, Name: "edge", Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	<-reached // the library now waits for the engine with its lock held
	if s := client.Status(); s.Connected {
		t.Errorf("status %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := client.session(ctx); !errors.Is(err, directory.ErrUnreachable) {
		t.Errorf("session: %v", err)
	}
	client.Leave()
	if _, err := client.session(t.Context()); !errors.Is(err, directory.ErrUnreachable) { // must not wait any more
		t.Errorf("session after Leave: %v", err)
	}
	client.Close()
	if took := time.Since(began); took >= connectTimeout {
		t.Errorf("everything took %v, and one attempt to connect takes %v", took, connectTimeout)
	}
}

// TestCredentialsChange checks that the client connects once a credentials file that was missing or wrong is
// written.
func TestCredentialsChange(t *testing.T) {
	g := newGuarded(t)
	for _, first := range []string{"", "stranger"} {
		t.Run("at first "+first, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "credentials")
			if first == "" {
				client := credentialsClient(t, g, file)
				if client.Status().LastError == nil {
					t.Error("no error for a file that is missing")
				}
				replaceFile(t, g.seeds["edge"], file)
				awaitSession(t, client)
				return
			}
			g.e.stop()
			replaceFile(t, g.seeds[first], file)
			client := credentialsClient(t, g, file)
			eventually(t, "no connection", func() bool { return client.Status().LastError != nil })
			replaceFile(t, g.seeds["edge"], file)
			g.e.start()
			awaitSession(t, client)
			if got := string(client.current.secret); got != readFile(t, g.seeds["edge"]) {
				t.Error("the connection has the old credentials")
			}
		})
	}
}

// TestNameChanges replaces the credentials of a host by those of another name, as after it was enrolled under a new
// one. The engine permits only the subjects of the new name.
func TestNameChanges(t *testing.T) {
	g := newGuarded(t)
	g.enrol("renamed", EdgeRole, "corp")
	names := map[string]string{}
	for _, name := range []string{"edge", "renamed"} {
		names[readFile(t, g.seeds[name])] = name
	}
	g.e.stop()
	file := filepath.Join(t.TempDir(), "credentials")
	replaceFile(t, g.seeds["edge"], file)
	client, err := Connect(Config{URLs: []string{g.e.url()}, Name: "host", CredentialsFile: file, Log: quiet(),
		NameOf: func(credentials []byte) string { return names[string(credentials)] }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for _, name := range []string{"edge", "renamed"} {
		replaceFile(t, g.seeds[name], file)
		g.e.start()
		awaitSession(t, client)
		eventually(t, name+" reports", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return client.Report(ctx, "corp", EdgeReport{State: "fresh"}) == nil
		})
		m, err := g.admin().Stream(t.Context(), edgesStream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.GetLastMsgForSubject(t.Context(), edgeSubject("corp", name)); err != nil {
			t.Errorf("report of %s: %v", name, err)
		}
		g.e.stop()
		eventually(t, "no connection", func() bool { return !client.Status().Connected })
	}
}

func credentialsClient(t *testing.T, g *guarded, file string) *Client {
	t.Helper()
	client, err := Connect(Config{URLs: []string{g.e.url()}, Name: "edge", CredentialsFile: file, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func awaitSession(t *testing.T, client *Client) {
	t.Helper()
	eventually(t, "connected", func() bool {
		_, err := client.session(t.Context())
		return err == nil
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func replaceFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, []byte(readFile(t, from)), 0o600); err != nil {
		t.Fatal(err)
	}
}
