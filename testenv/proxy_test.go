package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// echo is a server that returns what it receives.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func startProxy(t *testing.T) *Proxy {
	t.Helper()
	proxy, err := NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	return proxy
}

func dial(t *testing.T, proxy *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// say sends a text and returns what arrived before the deadline.
func say(t *testing.T, conn net.Conn, text string, patience time.Duration) (string, error) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, len(text))
	n, err := io.ReadFull(conn, buffer)
	return string(buffer[:n]), err
}

const (
	patient   = 10 * time.Second
	impatient = 50 * time.Millisecond // how long the test waits to see that nothing arrives
)

func TestProxyForwards(t *testing.T) {
	proxy := startProxy(t)
	conn := dial(t, proxy)
	if got, err := say(t, conn, "hello", patient); got != "hello" || err != nil {
		t.Errorf("echo = %q, %v, want \"hello\"", got, err)
	}
	if open, total := proxy.Connections(); open != 1 || total != 1 {
		t.Errorf("Connections() = %d, %d, want 1, 1", open, total)
	}
	// The proxy passes an orderly end on.
	conn.(*net.TCPConn).CloseWrite()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read() after the end = %d, %v, want EOF", n, err)
	}
}

func TestProxyRefuses(t *testing.T) {
	proxy := startProxy(t)
	before := dial(t, proxy)
	if got, err := say(t, before, "one", patient); got != "one" {
		t.Fatalf("echo = %q, %v", got, err)
	}
	proxy.Refuse()
	conn, err := net.Dial("tcp", proxy.Addr()) // the reset may arrive here already
	if err == nil {
		defer conn.Close()
		var got string
		if got, err = say(t, conn, "two", patient); got != "" || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("echo of a refused connection = %q, %v, want a broken connection", got, err)
		}
	}
	if got, err := say(t, before, "three", patient); got != "three" {
		t.Errorf("echo of an open connection = %q, %v, want \"three\"", got, err)
	}
	proxy.Resume()
	if got, err := say(t, dial(t, proxy), "four", patient); got != "four" {
		t.Errorf("echo after Resume = %q, %v, want \"four\"", got, err)
	}
}

func TestProxyCuts(t *testing.T) {
	proxy := startProxy(t)
	conn := dial(t, proxy)
	if got, err := say(t, conn, "one", patient); got != "one" {
		t.Fatalf("echo = %q, %v", got, err)
	}
	proxy.Cut()
	conn.SetReadDeadline(time.Now().Add(patient))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read() of a cut connection = %v, want a broken connection", err)
	}
	if got, err := say(t, dial(t, proxy), "two", patient); got != "two" {
		t.Errorf("echo of a new connection = %q, %v, want \"two\"", got, err)
	}
}

func TestProxyStalls(t *testing.T) {
	proxy := startProxy(t)
	conn := dial(t, proxy)
	if got, err := say(t, conn, "one", patient); got != "one" {
		t.Fatalf("echo = %q, %v", got, err)
	}
	proxy.Stall()
	if got, err := say(t, conn, "two", impatient); got != "" || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("echo while stalled = %q, %v, want a timeout", got, err)
	}
	proxy.Resume()
	conn.SetReadDeadline(time.Now().Add(patient))
	buffer := make([]byte, 3)
	if _, err := io.ReadFull(conn, buffer); string(buffer) != "two" {
		t.Errorf("after Resume = %q, %v, want the \"two\" that was held back", buffer, err)
	}
}

// A stalled proxy must not hang when its Run ends.
func TestProxyEndsStalled(t *testing.T) {
	proxy := startProxy(t)
	conn := dial(t, proxy)
	if got, err := say(t, conn, "one", patient); got != "one" {
		t.Fatalf("echo = %q, %v", got, err)
	}
	proxy.Stall()
	if _, err := conn.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
}

// A slow path delays all bytes and loses none.
func TestProxySlow(t *testing.T) {
	text := strings.Repeat("x", 4*slowPart)
	for _, slow := range []struct {
		name    string
		delay   time.Duration
		rate    int
		atLeast time.Duration
	}{
		{"delay", 40 * time.Millisecond, 0, 2 * 40 * time.Millisecond},
		{"rate", 0, 80 * slowPart, 2 * 4 * time.Second / 80},
		{"neither", 0, 0, 0},
	} {
		t.Run(slow.name, func(t *testing.T) {
			proxy := startProxy(t)
			conn := dial(t, proxy)
			if got, err := say(t, conn, "one", patient); got != "one" {
				t.Fatalf("echo = %q, %v", got, err)
			}
			proxy.Slow(slow.delay, slow.rate)
			began := time.Now()
			if got, err := say(t, conn, text, patient); got != text {
				t.Fatalf("echo = %d bytes, %v, want %d", len(got), err, len(text))
			}
			// The directions overlap, and the first part arrives before the last one leaves.
			if took := time.Since(began); took < slow.atLeast/2 {
				t.Errorf("echo took %v, want at least %v", took, slow.atLeast/2)
			}
		})
	}
}

func TestProxyTarget(t *testing.T) {
	proxy, err := NewProxyOn("127.0.0.1", "127.0.0.1:1") // no server
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	proxy.SetTarget(echo(t))
	if got, err := say(t, dial(t, proxy), "one", patient); got != "one" {
		t.Errorf("echo at the new target = %q, %v, want \"one\"", got, err)
	}
}
