package daemon

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"rcpt-milter/store"
)

// TestStartExtends checks that the daemon asks systemd for more time while the store is opened, but only if
// there is progress.
func TestStartExtends(t *testing.T) {
	told, ticks := make(chan string, 10), make(chan time.Time)
	s := &start{notify: func(state string) { told <- state }, done: make(chan struct{})}
	s.running.Go(func() { s.report(ticks) })
	for _, progress := range []bool{false, true, false, true} {
		if progress {
			s.progress()
		}
		ticks <- time.Now()
		if progress {
			if got, want := <-told,
				"EXTEND_TIMEOUT_USEC=60000000\nSTATUS=opening and verifying the store"; got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		}
	}
	s.end()
	if len(told) > 0 {
		t.Errorf("sent %q without progress", <-told)
	}
}

// TestOpeningHasProgress checks that opening a store with data reports progress.
func TestOpeningHasProgress(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	addAddresses(t, s, "corp", "jane@corp.example")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	steps := 0
	if s, err = store.Open(t.Context(), store.Config{Dir: dir, Progress: func() { steps++ }}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if steps == 0 {
		t.Error("no progress")
	}
}

// TestAddressSpace checks that a limit that is too low is an error, not a crash of the runtime.
func TestAddressSpace(t *testing.T) {
	if err := checkAddressSpace(1 << 20); err != nil {
		t.Error(err)
	}
	err := checkAddressSpace(1 << 60)
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "more of it are needed; remove its limit") {
		t.Errorf("error %v", err)
	}
}

func TestCgroupLimit(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	const gib = 1 << 30
	for _, c := range []struct {
		name, own string
		files     fstest.MapFS
		want      int64
	}{
		{"a service", "0::/system.slice/rcpt-milter.service\n", fstest.MapFS{
			"system.slice/rcpt-milter.service/memory.max":  file("1073741824"),
			"system.slice/rcpt-milter.service/memory.high": file("max"),
			"system.slice/memory.max":                      file("max")}, gib},
		{"memory.high", "0::/system.slice/a.service\n", fstest.MapFS{
			"system.slice/a.service/memory.max":  file("1073741824"),
			"system.slice/a.service/memory.high": file("536870912")}, gib / 2},
		{"a limit above", "0::/a.slice/b.service\n", fstest.MapFS{
			"a.slice/b.service/memory.max": file("2147483648"), "a.slice/memory.max": file("1073741824")}, gib},
		{"a container", "0::/\n", fstest.MapFS{"memory.max": file("1073741824")}, gib},
		{"a path of the host", "0::/../../kubepods/pod\n", fstest.MapFS{"memory.max": file("1073741824")}, gib},
		{"no limit", "0::/a\n", fstest.MapFS{"a/memory.max": file("max")}, 0},
		{"nothing", "0::/a\n", fstest.MapFS{}, 0},
		{"version 1", "9:name=systemd:/\n4:cpu,memory:/docker/1\n0::/\n", fstest.MapFS{
			"memory/docker/1/memory.limit_in_bytes": file("1073741824"),
			"memory/memory.limit_in_bytes":          file("9223372036854771712")}, gib},
		{"version 1 without a limit", "4:memory:/a\n", fstest.MapFS{
			"memory/memory.limit_in_bytes": file("9223372036854771712")}, 0},
		{"garbage", "x\n0::/a\n", fstest.MapFS{"a/memory.max": file("lots")}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cgroupLimit(c.files, c.own); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
