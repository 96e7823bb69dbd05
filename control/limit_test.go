package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// slowListener returns connections that are slow to write: the goroutine of the server leaves the
// processor long enough for another to close the connection.
type slowListener struct{ net.Listener }

type slowConn struct{ net.Conn }

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return slowConn{c}, err
}

func (c slowConn) Write(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.Conn.Write(p)
}

// limitedServer serves a handler on a unix socket with a limit of connections.
func limitedServer(t *testing.T, limit int, handler http.Handler) (l *Limited, dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l = Limit(slowListener{socket}, limit)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, handler, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l, func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// get sends a request over a connection and returns the status of the answer.
func get(c net.Conn, path string) (int, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// TestLimit: connections that ask for nothing, or that have not finished their request, give way
// to a new one, the oldest first.
func TestLimit(t *testing.T) {
	const limit = 4
	for _, begin := range []string{"", "G", "GET / HTTP/1.1\r\nHost: x\r\n", "GET /done"} {
		l, dial := limitedServer(t, limit, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		var held []net.Conn
		for range 3 * limit {
			c := dial()
			io.WriteString(c, begin)
			held = append(held, c)
		}
		if status, err := get(dial(), "/"); status != http.StatusOK || err != nil {
			t.Errorf("%q: a new client gets %d, %v", begin, status, err)
		}
		for i, c := range held[:2*limit] {
			c.SetDeadline(time.Now().Add(headerTimeout / 2)) // the server's own limit must not be what closes it
			if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q: connection %d is still open", begin, i)
			}
		}
		if got := l.Connections(); got.Open > limit || got.Limit != limit || got.AtLimit < 2*limit ||
			got.AcceptErrors > 0 {
			t.Errorf("%q: the counts are %+v", begin, got)
		}
	}
}

// TestLimitKeepsRequests: a running request is not cut off, nor is its answer. New clients wait
// for its end.
func TestLimitKeepsRequests(t *testing.T) {
	const limit = 3
	running, finish := make(chan struct{}), make(chan struct{})
	l, dial := limitedServer(t, limit, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			running <- struct{}{}
			<-finish
		}
	}))
	answers := make(chan error, limit+1)
	for range limit {
		c := dial()
		go func() {
			status, err := get(c, "/long")
			if status != http.StatusOK {
				err = errors.Join(err, fmt.Errorf("status %d", status))
			}
			answers <- err
		}()
		<-running
	}
	late := dial()
	go func() {
		_, err := get(late, "/")
		answers <- err
	}()
	for deadline := time.Now().Add(patience); l.Connections().AtLimit == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the limit is never reached")
		}
	}
	if n := len(answers); n > 0 {
		t.Errorf("%d answers above the limit", n)
	}
	close(finish)
	for range limit + 1 {
		if err := <-answers; err != nil {
			t.Errorf("a request was cut off: %v", err)
		}
	}
}

// TestLimitClose: Close ends an Accept that waits for room.
func TestLimitClose(t *testing.T) {
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(socket, 1)
	for range 2 {
		c, err := net.Dial("unix", socket.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	first.(*limitedConn).busy.Store(true)
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

// failing is a listener that fails as long as there are errors left.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func TestLimitCountsErrors(t *testing.T) {
	l := Limit(&failing{errs: []error{errors.New("too many open files"), net.ErrClosed}}, 1)
	for range 2 {
		if _, err := l.Accept(); err == nil {
			t.Fatal("no error")
		}
	}
	if got := l.Connections().AcceptErrors; got != 1 {
		t.Errorf("%d errors are counted, want 1: the end is none", got)
	}
}

func TestNamesBeside(t *testing.T) {
	const hosts = `127.0.0.1	localhost
127.0.1.1 mx1.Example.com mx1 # mx3
# 192.0.2.1 mx1.commented.example mx1
192.0.2.1 mx12.example.com mx12
::1 ip6-localhost
mx1 mx1-is-no-address.example
192.0.2.7	MX1 relay`
	got := fmt.Sprint(namesBeside(hosts, "mx1"))
	if want := "[mx1.example.com mx1 mx1 relay]"; got != want {
		t.Errorf("the names beside mx1 are %s, want %s", got, want)
	}
	if got := namesBeside("", "mx1"); got != nil {
		t.Errorf("in an empty file: %q", got)
	}
}
