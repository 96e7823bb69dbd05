package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// smallDisk mounts a small file system. It skips the test where that is not permitted.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("NOT TESTED: a file system that is full, because it cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestDiskIsFull checks that a single engine whose disk was full reports that, and stores messages again once
// there is space.
func TestDiskIsFull(t *testing.T) {
	disk := smallDisk(t)
	var later atomic.Int64 // by how much the clock is ahead
	c := testConfig(t, filepath.Join(disk, "nats"))
	c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	e := start(t, c)
	_, js := daemonJS(t, e)
	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, MaxMsgsPerSubject: 1}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	publish := func(subject string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := js.Publish(ctx, subject, make([]byte, 64<<10))
		return err
	}
	if err := publish("s.first"); err != nil {
		t.Fatal(err)
	}
	filler := fill(t, disk)
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = publish(fmt.Sprintf("s.%d", i))
	}
	if err == nil {
		t.Fatal("the disk is not full")
	}
	if s := e.Status(); s.Ready || !strings.Contains(s.WriteError, "no space") {
		t.Errorf("while the disk is full: ready %t, write error %q, last error %q", s.Ready, s.WriteError, s.LastError)
	}
	e.revive()
	if s := e.Status(); s.Ready {
		t.Error("ready although the disk is still full")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	later.Store(int64(restartInterval))
	e.revive()
	if s := e.Status(); !s.Ready || s.WriteError != "" {
		t.Errorf("with space: ready %t, write error %q", s.Ready, s.WriteError)
	}
	waitFor(t, "messages are stored", func() bool { return publish("s.last") == nil })
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetLastMsgForSubject(t.Context(), "s.first"); err != nil {
		t.Errorf("the message from before: %v", err)
	}
}

// fill writes a file that leaves no space, and returns its path.
func fill(t *testing.T, disk string) string {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

// TestWriteErrors checks which errors of the server mean that a stream takes no messages until it is restarted.
func TestWriteErrors(t *testing.T) {
	for _, c := range []struct {
		name, format string
		args         []any
		want         bool
	}{
		{"a file store", "Filestore [%s] Critical write error: %v", []any{"S", syscall.EROFS}, true},
		{"a stream", "JetStream stream '%s > %s' critical write error: %v", []any{"$G", "S", syscall.EIO}, true},
		{"a message", "JetStream failed to store a msg on stream '%s > %s': %v", []any{"$G", "S", syscall.ENOSPC},
			true},
		{"another error", "JetStream cannot recover stream %s", []any{"S"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newServerLog(slog.New(slog.DiscardHandler), time.Now)
			l.Errorf(c.format, c.args...)
			if got := l.writeError(); (got != "") != c.want {
				t.Errorf("write error %q, want one: %t", got, c.want)
			}
			l.forgetWriteError()
			if got := l.writeError(); got != "" {
				t.Errorf("then %q", got)
			}
		})
	}
}
