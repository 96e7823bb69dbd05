package logging

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// patience is the longest wait of a test for an event that must come.
const patience = 10 * time.Second

// word is a value with a text of its own.
type word string

func (w word) String() string { return string(w) }

// TestLog: form and level change for a logger that was made before, with its attributes.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "rcpt-milter", Options{Format: "text", Level: "info"})
	go l.Run()
	log := l.Logger().With("directory", "corp").WithGroup("g").With("a", 1)
	log.Debug("hidden")
	log.Info("text", "b", 2)
	l.Set(Options{Format: "json", Level: "debug"})
	log.Debug("json", "b", 2)
	log.Info("pass", "kind", word("incremental"), "took", 1500*time.Millisecond)
	l.journal = true
	l.Set(Options{Format: "json", Level: "debug"})
	log.Info("pass", "kind", word("full"), "took", 1500*time.Millisecond)
	l.Set(Options{Format: "text", Level: "debug"})
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		log.Log(t.Context(), level, "journal", "b", "x\ny")
	}
	log.Log(t.Context(), LevelProbe, "never written")
	l.Close()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	want := []string{
		`time=* level=INFO msg=text directory=corp g.a=1 g.b=2`,
		`{"time":"*","level":"DEBUG","msg":"json","directory":"corp","g":{"a":1,"b":2}}`,
		`{"time":"*","level":"INFO","msg":"pass","directory":"corp","g":{"a":1,"kind":"incremental","took":"1.5s"}}`,
		`<6>{"msg":"pass","directory":"corp","g":{"a":1,"kind":"full","took":"1.5s"}}`,
		`<7>msg=journal directory=corp g.a=1 g.b="x\ny"`,
		`<6>msg=journal directory=corp g.a=1 g.b="x\ny"`,
		`<4>msg=journal directory=corp g.a=1 g.b="x\ny"`,
		`<3>msg=journal directory=corp g.a=1 g.b="x\ny"`,
	}
	stamp := regexp.MustCompile(`\d{4}-\d\d-\d\dT[^ "]*`)
	for i, line := range lines {
		if got := stamp.ReplaceAllString(line, "*"); i >= len(want) || got != want[i] {
			t.Errorf("line %d is %s", i, got)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}

// syslogd listens as on /dev/log.
type syslogd struct {
	t    *testing.T
	path string
	*net.UnixConn
}

func newSyslogd(t *testing.T, path string) *syslogd {
	t.Helper()
	os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &syslogd{t, path, c}
}

// want reads a line, and checks its priority and text.
func (d *syslogd) want(priority int, text string) {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(patience))
	line := make([]byte, 64<<10)
	n, err := d.Read(line)
	if err != nil {
		d.t.Fatalf("no line: %v, want %s", err, text)
	}
	traditional := regexp.MustCompile(`^<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d rcpt-milter\[\d+\]: (.*)\n$`)
	found := traditional.FindStringSubmatch(string(line[:n]))
	if found == nil || found[1] != strconv.Itoa(priority) || found[2] != text {
		d.t.Errorf("line %q, want <%d> and %q", line[:n], priority, text)
	}
}

// socketDir is a directory whose paths are short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestSyslog: lines have facility, severity and the traditional form. While syslogd is down they
// go to standard error.
func TestSyslog(t *testing.T) {
	var stderr syncBuffer
	path := filepath.Join(socketDir(t), "log")
	d := newSyslogd(t, path)
	l := New(&stderr, "rcpt-milter", Options{Format: "text", Level: "debug", Syslog: "mail"})
	l.syslogd.path = path
	go l.Run()
	log := l.Logger()
	log.Debug("one", "to", "a b@c")
	d.want(2<<3|7, `msg=one to="a b@c"`)
	log.Info("two")
	d.want(2<<3|6, "msg=two")
	l.Set(Options{Format: "json", Level: "info", Syslog: "local3"})
	log.Warn("three", "x", 1)
	d.want(19<<3|4, `warning: {"msg":"three","x":1}`)
	log.Error("four")
	d.want(19<<3|3, `error: {"msg":"four"}`)

	d.Close() // restarted
	d = newSyslogd(t, path)
	log.Error("five")
	d.want(19<<3|3, `error: {"msg":"five"}`)

	d.Close() // gone
	os.Remove(path)
	log.Info("six")
	for !strings.Contains(stderr.String(), `{"msg":"six"}`) {
		if t.Context().Err() != nil {
			t.Fatal("not on standard error")
		}
	}
	d = newSyslogd(t, path) // back
	for i := 0; ; i++ {
		log.Info("seven")
		d.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if n, _ := d.Read(make([]byte, 1000)); n > 0 {
			break
		}
		if i > 1000 {
			t.Fatal("not found again")
		}
	}
	log.Info("last")
	l.Close()
	log.Info("late")
	if got := stderr.String(); strings.Contains(got, "last") || !strings.Contains(got, "msg=late") {
		t.Errorf("standard error:\n%s", got)
	}
}

// TestSyslogNeverBlocks: a syslogd that does not read delays no caller, and dropped lines are
// counted.
func TestSyslogNeverBlocks(t *testing.T) {
	var stderr syncBuffer
	path := filepath.Join(socketDir(t), "log")
	d := newSyslogd(t, path)
	l := New(&stderr, "rcpt-milter", Options{Format: "text", Level: "info", Syslog: "daemon"})
	l.syslogd.path = path
	go l.Run()
	log := l.Logger()
	const sent = maxPending + 5000 // more than wait here and in the socket
	for i := range sent {
		log.Info("line", "i", i)
	}
	d.SetReadBuffer(1 << 20)
	lost := regexp.MustCompile(`: warning: ` +
		`msg="dropped lines, syslogd is too slow" lines=(\d+)\n$`)
	line := make([]byte, 1000)
	for read, dropped := 0, 0; read+dropped < sent; {
		d.SetReadDeadline(time.Now().Add(patience))
		n, err := d.Read(line)
		if err != nil {
			t.Fatalf("%d lines read and %d dropped of %d: %v", read, dropped, sent, err)
		}
		if found := lost.FindSubmatch(line[:n]); found != nil {
			n, _ := strconv.Atoi(string(found[1]))
			dropped += n
		} else {
			read++
		}
	}
	l.Close()
}

func TestFacilities(t *testing.T) {
	for name, want := range map[string]int{"user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "cron": 9,
		"authpriv": 10, "ftp": 11, "local0": 16, "local7": 23} {
		if got := facilities[name]; int(got) != want<<3 {
			t.Errorf("facility %q = %d, want %d", name, got>>3, want)
		}
	}
}

// TestSetWhileLogging: lines of the handler before and of the next one do not mix.
func TestSetWhileLogging(t *testing.T) {
	var written bytes.Buffer
	l := New(&written, "rcpt-milter", Options{Format: "text", Level: "info"})
	go l.Run()
	const each = 200
	var writing sync.WaitGroup
	for range 4 {
		writing.Go(func() {
			for range each {
				l.Logger().Info("a line")
			}
		})
	}
	for range each {
		l.Set(Options{Format: "json", Level: "info"})
		l.Set(Options{Format: "text", Level: "info"})
	}
	writing.Wait()
	l.Close()
	if lines := strings.Count(written.String(), "\n"); lines != 4*each {
		t.Errorf("%d lines, want %d", lines, 4*each)
	}
}
