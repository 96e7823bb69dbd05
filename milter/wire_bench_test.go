package milter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wireClient is an environment variable that makes a process the client of BenchmarkWire. Its value is the path
// of the socket.
const wireClient = "MILTER_TEST_WIRE_CLIENT"

// BenchmarkWire sends recipients over a unix socket from another process; half of them are unknown. It reports
// the server's processor time and allocations per RCPT, and the latency at the client. The log lines of
// rejections are discarded.
func BenchmarkWire(b *testing.B) {
	r := serve(b, "unix", func(cfg *ServerConfig) {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	})
	for _, c := range []struct {
		sessions int
		pause    time.Duration // between two RCPTs of a session, as with a real MTA
	}{{1, 0}, {16, 0}, {1, time.Millisecond}, {8, 2 * time.Millisecond}} {
		b.Run(fmt.Sprintf("sessions=%d/pause=%s", c.sessions, c.pause), func(b *testing.B) {
			b.ReportAllocs()
			client := exec.Command(os.Args[0])
			client.Env = append(os.Environ(), wireClient+"="+r.address, "SESSIONS="+strconv.Itoa(c.sessions),
				"COUNT="+strconv.Itoa(b.N), "PAUSE="+c.pause.String())
			begin, err := client.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			stdout, err := client.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			client.Stderr = os.Stderr
			if err := client.Start(); err != nil {
				b.Fatal(err)
			}
			out := bufio.NewReader(stdout)
			if line, err := out.ReadString('\n'); line != "ready\n" {
				b.Fatalf("client: %q, %v", line, err)
			}
			before := cpu(b)
			b.ResetTimer()
			begin.Close()
			var p50, p99 time.Duration
			if _, err := fmt.Fscanln(out, &p50, &p99); err != nil {
				b.Error(err)
			}
			b.StopTimer()
			used := cpu(b) - before
			if err := client.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(p50.Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(p99.Nanoseconds())/1e3, "p99-µs")
		})
	}
}

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runWireClient runs the client process. It uses blocking system calls, with one thread per session.
func runWireClient(path string) error {
	sessions, err := strconv.Atoi(os.Getenv("SESSIONS"))
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(os.Getenv("COUNT"))
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(os.Getenv("PAUSE"))
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(sessions + 1)
	conns := make([]*os.File, sessions)
	for i := range conns {
		if conns[i], err = dialBlocking(path); err != nil {
			return err
		}
	}
	took := make([]time.Duration, count)
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	var all sync.WaitGroup
	errs := make([]error, sessions)
	for i := range conns {
		all.Go(func() { errs[i] = askWire(int(conns[i].Fd()), pause, took[i*count/sessions:(i+1)*count/sessions]) })
	}
	all.Wait()
	runtime.KeepAlive(conns) // a collected file would be closed
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Println(int64(took[len(took)/2]), int64(took[len(took)*99/100]))
	return nil
}

// dialBlocking negotiates a session on a blocking socket.
func dialBlocking(path string) (*os.File, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, optneg+packet('C', "client.test\x004\x00\x19192.0.2.1\x00")+
		packet('H', "client.test\x00")); err != nil {
		return nil, err
	}
	for range 3 {
		if _, _, err := readReply(c); err != nil {
			return nil, err
		}
	}
	f, err := c.(*net.UnixConn).File()
	if err != nil {
		return nil, err
	}
	return f, syscall.SetNonblock(int(f.Fd()), false)
}

// askWire sends one recipient after the other, and records the time of each answer.
func askWire(fd int, pause time.Duration, took []time.Duration) error {
	runtime.LockOSThread()
	requests := []string{wireRequest("user@enforce.test"), wireRequest("nobody@enforce.test")}
	codes := []byte{'c', 'y'}
	reply := make([]byte, 4096)
	wait := syscall.NsecToTimespec(pause.Nanoseconds())
	for i := range took {
		if pause > 0 {
			syscall.Nanosleep(&wait, nil)
		}
		began := time.Now()
		if _, err := syscall.Write(fd, []byte(requests[i%2])); err != nil {
			return err
		}
		for have := 0; have < headerSize || have < headerSize+int(binary.BigEndian.Uint32(reply)); {
			n, err := syscall.Read(fd, reply[have:])
			if err != nil || n == 0 {
				return fmt.Errorf("read %d bytes: %w", n, err)
			}
			have += n
		}
		took[i] = time.Since(began)
		if reply[headerSize] != codes[i%2] {
			return fmt.Errorf("reply %c, want %c", reply[headerSize], codes[i%2])
		}
	}
	return nil
}

// wireRequest returns a RCPT with its macros, as Postfix sends it.
func wireRequest(recipient string) string {
	return packet('D', "Ri\x004WJkYz2Qk1z4vRB\x00{rcpt_addr}\x00"+recipient+"\x00{client_addr}\x00192.0.2.1\x00"+
		"{client_name}\x00mx.client.test\x00{mail_addr}\x00from@client.test\x00") + packet('R', "<"+recipient+">\x00")
}
