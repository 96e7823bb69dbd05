package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSecondProcess(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	_, err := Open(context.Background(), Config{Dir: s.config.Dir, LockWait: 150 * time.Millisecond})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("a second opener gets %v", err)
	}
	done := make(chan error)
	go func() {
		second, err := Open(context.Background(), Config{Dir: s.config.Dir, LockWait: time.Minute})
		if err == nil {
			err = second.Close()
		}
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("an opener that waits gets %v", err)
	}
}

// TestBadgerLog: Badger's debug messages do not fill the debug log.
func TestBadgerLog(t *testing.T) {
	var out bytes.Buffer
	l := badgerLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Debugf("hidden %d", 1)
	l.Infof("info %d\n", 2)
	l.Warningf("warning %d", 3)
	l.Errorf("error %d", 4)
	for i, want := range []string{`level=DEBUG msg=badger text="info 2"`, `level=WARN msg=badger text="warning 3"`,
		`level=ERROR msg=badger text="error 4"`, ""} {
		if line := append(strings.Split(out.String(), "\n"), "")[i]; !strings.HasSuffix(line, want) ||
			want == "" && line != "" {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
}

func TestBadDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := t.TempDir()
	if err := os.Symlink("MANIFEST", filepath.Join(loop, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"a file", Config{Dir: file}, "not a directory; set store.dir"},
		{"below a file", Config{Dir: filepath.Join(file, "below")}, "not a directory"},
		{"not there", Config{Dir: filepath.Join(t.TempDir(), "none"), MustExist: true}, "there is no store"},
		{"an empty directory", Config{Dir: t.TempDir(), MustExist: true}, "there is no store"},
		{"a loop of links", Config{Dir: loop, MustExist: true}, "too many levels of symbolic links"},
		{"too little space", Config{Dir: t.TempDir(), MinFree: 1 << 62}, "free space on that file system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(context.Background(), c.config)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open gives %v, want %q", err, c.want)
			}
		})
	}
}

// TestMissingError: only a missing file means that there is no store.
func TestMissingError(t *testing.T) {
	for _, c := range []struct {
		errno   syscall.Errno
		missing bool
		want    string
	}{
		{syscall.ENOENT, true, "store /s: there is no store"},
		{syscall.EACCES, false, "store /s: stat /s/MANIFEST: permission denied; " +
			"run this command as root or with the account of the daemon"},
		{syscall.EIO, false, "store /s: stat /s/MANIFEST: input/output error"},
	} {
		t.Run(c.errno.Error(), func(t *testing.T) {
			err := missingError("/s", &fs.PathError{Op: "stat", Path: "/s/MANIFEST", Err: c.errno})
			if err.Error() != c.want || errors.Is(err, ErrMissing) != c.missing {
				t.Errorf("%v: %v, want %s", c.errno, err, c.want)
			}
		})
	}
}

func TestNewerFormat(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	e := newEncoder()
	e.uint(formatVersion + 1)
	if err := s.write(func(t *tx) error { return t.set([]byte(keyFormat), e) }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(context.Background(), s.config); !errors.Is(err, ErrNewer) {
		t.Errorf("a store of a newer format: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	s.Close()
	if _, err := s.Lookup(mustParse(t, "a@x.test")); !errors.Is(err, ErrClosed) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := s.Describe(mustParse(t, "a@x.test")); !errors.Is(err, ErrClosed) {
		t.Errorf("Describe: %v", err)
	}
	if _, err := s.Begin("corp", Full, Origin{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Begin: %v", err)
	}
	if err := s.Verify(); !errors.Is(err, ErrClosed) {
		t.Errorf("Verify: %v", err)
	}
}
