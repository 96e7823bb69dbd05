package milter

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// forms are the kinds of connections that each test runs with. Those of package net show the expected
// behaviour.
var forms = []struct {
	name string
	wrap func(net.Conn) net.Conn
}{{"net", func(c net.Conn) net.Conn { return c }}, {"direct", newDirect}}

// onSockets runs a test with both ends of a connection, for each form and each kind of socket. The second end
// is from package net. The buffers of both are small.
func onSockets(t *testing.T, test func(t *testing.T, c, peer net.Conn)) {
	for _, network := range []string{"unix", "tcp"} {
		for _, form := range forms {
			t.Run(network+"/"+form.name, func(t *testing.T) {
				c, peer := socketPair(t, network)
				c = form.wrap(c)
				if _, ok := c.(*direct); ok != (form.name == "direct") {
					t.Fatalf("the connection is a %T", c)
				}
				test(t, c, peer)
			})
		}
	}
}

func socketPair(t *testing.T, network string) (accepted, dialed net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(filepath.Dir(socketPath(t)), "pair.sock")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialed, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	buffer := 4 << 10
	if network == "tcp" {
		buffer = 64 << 10 // TCP is slow with small windows
	}
	for _, c := range []net.Conn{accepted, dialed} {
		t.Cleanup(func() { c.Close() })
		small := c.(interface {
			SetReadBuffer(int) error
			SetWriteBuffer(int) error
		})
		if err := errors.Join(small.SetReadBuffer(buffer), small.SetWriteBuffer(buffer)); err != nil {
			t.Fatal(err)
		}
	}
	return accepted, dialed
}

// result is the result of a Read or Write in another goroutine.
type result struct {
	n   int
	err error
}

func await(t *testing.T, done <-chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		t.Fatal("the call does not return")
		return result{}
	}
}

func readLater(c net.Conn) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := c.Read(make([]byte, 100))
		done <- result{n, err}
	}()
	return done
}

// writeLater writes more than the socket buffers can hold.
func writeLater(c net.Conn) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := c.Write(make([]byte, 16<<20))
		done <- result{n, err}
	}()
	return done
}

// begun waits until a writeLater to the peer of c has started. It cannot end by itself then.
func begun(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TestDirectCarriesEverything sends in both directions at once, in pieces of all sizes, with buffers that fill
// up and signals that interrupt system calls.
func TestDirectCarriesEverything(t *testing.T) {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, syscall.SIGUSR2)
	defer signal.Stop(interrupt)
	onSockets(t, func(t *testing.T, c, peer net.Conn) {
		const size = 1 << 19
		random := func(seed uint64) []byte {
			source, b := rand.NewChaCha8([32]byte{byte(seed)}), make([]byte, size)
			source.Read(b)
			return b
		}
		send := func(c net.Conn, b []byte, seed uint64) {
			pieces := rand.New(rand.NewPCG(seed, 1))
			for len(b) > 0 {
				syscall.Kill(os.Getpid(), syscall.SIGUSR2)
				n := min(len(b), 1+pieces.IntN(1<<pieces.IntN(17)))
				if written, err := c.Write(b[:n]); written != n || err != nil {
					t.Errorf("wrote %d of %d bytes: %v", written, n, err)
					return
				}
				b = b[n:]
			}
		}
		receive := func(c net.Conn, want []byte, seed uint64) {
			pieces, b := rand.New(rand.NewPCG(seed, 2)), make([]byte, 1<<17)
			for len(want) > 0 {
				n, err := c.Read(b[:1+pieces.IntN(1<<pieces.IntN(17))])
				if n == 0 || err != nil || !bytes.HasPrefix(want, b[:n]) {
					t.Errorf("read %d bytes, %v, with %d to come", n, err, len(want))
					return
				}
				want = want[n:]
			}
		}
		there, back := random(1), random(2)
		var all sync.WaitGroup
		all.Go(func() { send(c, there, 3) })
		all.Go(func() { send(peer, back, 4) })
		all.Go(func() { receive(c, back, 5) })
		all.Go(func() { receive(peer, there, 6) })
		all.Wait()
	})
}

// TestDirectDeadlines checks that a deadline ends a waiting call and all later calls until a new deadline is
// set, as net.Conn specifies.
func TestDirectDeadlines(t *testing.T) {
	onSockets(t, func(t *testing.T, c, peer net.Conn) {
		late := func(r result) {
			t.Helper()
			if !errors.Is(r.err, os.ErrDeadlineExceeded) || !os.IsTimeout(r.err) {
				t.Errorf("%d bytes, %v, want a timeout", r.n, r.err)
			}
		}
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		late(await(t, readLater(c)))
		c.SetReadDeadline(time.Time{})
		reading := readLater(c)
		c.SetReadDeadline(time.Unix(1, 0))
		late(await(t, reading))
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		late(await(t, readLater(c))) // even if there is data to read
		c.SetReadDeadline(deadline())
		if r := await(t, readLater(c)); r.n != 1 || r.err != nil {
			t.Errorf("after the deadline was moved: %d bytes, %v", r.n, r.err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Millisecond))
		late(await(t, writeLater(c)))
		c.SetDeadline(time.Time{})
		writing := writeLater(c)
		begun(t, peer)
		c.SetDeadline(time.Unix(1, 0))
		if r := await(t, writing); r.n == 16<<20 || !os.IsTimeout(r.err) {
			t.Errorf("wrote %d bytes, %v, want a timeout", r.n, r.err)
		}
	})
}

// TestDirectClose checks that Close ends waiting calls, and that all later calls fail.
func TestDirectClose(t *testing.T) {
	onSockets(t, func(t *testing.T, c, peer net.Conn) {
		reading, writing := readLater(c), writeLater(c)
		begun(t, peer)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for _, r := range []result{await(t, reading), await(t, writing), await(t, readLater(c)),
			await(t, writeLater(c))} {
			if !errors.Is(r.err, net.ErrClosed) {
				t.Errorf("%d bytes, %v, want net.ErrClosed", r.n, r.err)
			}
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	})
}

// TestDirectPeerEnds checks that Read returns io.EOF after the last data, and that a write to a closed socket
// is an error. Neither may end the process.
func TestDirectPeerEnds(t *testing.T) {
	onSockets(t, func(t *testing.T, c, peer net.Conn) {
		c.SetDeadline(deadline())
		if _, err := peer.Write([]byte("last")); err != nil {
			t.Fatal(err)
		}
		peer.Close()
		got, err := io.ReadAll(c)
		if string(got) != "last" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if n, err := c.Read(nil); n != 0 || err != nil {
			t.Errorf("empty read: %d, %v", n, err)
		}
		for err == nil { // TCP still accepts some data
			_, err = c.Write([]byte("x"))
		}
		failed := new(net.OpError)
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &failed) ||
			failed.Op != "write" {
			t.Errorf("write to a closed socket: %v", err)
		}
	})
}

// TestDirectAllocates checks that Read and Write do not allocate.
func TestDirectAllocates(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		c, peer := socketPair(t, network)
		c, peer = newDirect(c), newDirect(peer)
		b := make([]byte, 100)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(peer, b); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations for a write and a read", network, n)
		}
	}
}

// TestConnIsDirect checks that sessions use direct connections on both kinds of sockets.
func TestConnIsDirect(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		c, _ := socketPair(t, network)
		if used := newConn(c, nil).Conn; used == c {
			t.Errorf("%s: the session uses a %T", network, used)
		}
	}
}
