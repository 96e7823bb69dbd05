package mirror

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

var objectsFlag = flag.Int("objects", 20_000, "how many users the directory of BenchmarkFullPass has")

// BenchmarkFullPass reads a simulated directory in full: for the first time, and again
// without changes. It also reports the bytes that the pass writes to disk (as the kernel
// counts them), the growth of the heap (the simulated directory is in the same process),
// and the size of the store on disk. docs/testing.md has the commands.
func BenchmarkFullPass(b *testing.B) {
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	for i := range *objectsFlag {
		name := fmt.Sprintf("user%07d", i)
		_, err := d.Add(adsim.User, "CN="+name+",CN=Users,"+d.BaseDN(), adsim.Attrs{
			"mail":           {name + "@corp.example"},
			"proxyAddresses": {"SMTP:" + name + "@corp.example", "smtp:first.last." + name + "@corp.example"}})
		if err != nil {
			b.Fatal(err)
		}
	}
	server := adsim.StartTest(b, d, adsim.ServerConfig{})
	for _, first := range []bool{true, false} {
		b.Run(map[bool]string{true: "first", false: "unchanged"}[first], func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				m, dir := benchMirror(b, server)
				if !first {
					benchPass(b, m)
				}
				used := startUsage(dir)
				b.StartTimer()
				info := benchPass(b, m)
				b.StopTimer()
				used.report(b)
				b.ReportMetric(float64(info.Changed), "objects-written")
				b.StartTimer()
			}
		})
	}
}

// benchMirror returns a mirror with an empty store.
func benchMirror(b *testing.B, server *adsim.Server) (m *Mirror, dir string) {
	dir = b.TempDir()
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	ca, err := server.WriteCA(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	config := directory.Config{URL: server.URL(), BindDN: server.BindDN(), CAFile: ca,
		Password: func() ([]byte, error) { return []byte(server.Password()), nil }}
	m, err = New(Config{Name: "corp", Store: s, Poll: time.Minute, Full: 24 * time.Hour,
		Log: slog.New(slog.DiscardHandler),
		Candidates: []Candidate{{Name: server.URL(),
			Dial: func(ctx context.Context) (Source, error) { return directory.Dial(ctx, config) }}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	return m, dir
}

func benchPass(b *testing.B, m *Mirror) store.PassInfo {
	r := m.Pass(context.Background(), true)
	if r.Err != nil {
		b.Fatal(r.Err)
	}
	return r.Info
}

// usage measures what a pass uses besides time.
type usage struct {
	dir     string
	before  int64 // on disk
	written int64
	heap    uint64
	stop    chan struct{}
	peak    chan uint64
}

func startUsage(dir string) usage {
	runtime.GC()
	u := usage{dir: dir, before: onDisk(dir), written: writtenBytes(), heap: heap(), stop: make(chan struct{}),
		peak: make(chan uint64)}
	go func() {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		most := u.heap
		for {
			select {
			case <-u.stop:
				u.peak <- most
				return
			case <-ticker.C:
				most = max(most, heap())
			}
		}
	}()
	return u
}

func (u usage) report(b *testing.B) {
	close(u.stop)
	const mib = 1 << 20
	b.ReportMetric(float64(<-u.peak-u.heap)/mib, "MiB-heap")
	b.ReportMetric(float64(writtenBytes()-u.written)/mib, "MiB-written")
	b.ReportMetric(float64(u.before)/mib, "MiB-store-before")
	b.ReportMetric(float64(onDisk(u.dir))/mib, "MiB-store-after")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// writtenBytes returns the number of bytes that this process has written to storage,
// including memory maps; 0 if the kernel does not report it.
func writtenBytes() int64 {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// onDisk returns the size of a directory without the holes of sparse files.
func onDisk(dir string) (n int64) {
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var s syscall.Stat_t
		if err == nil && syscall.Lstat(path, &s) == nil {
			n += s.Blocks * 512
		}
		return nil
	})
	return n
}
