package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// accessOf returns the permissions and the group of a file.
func accessOf(t *testing.T, path string) (os.FileMode, int) {
	t.Helper()
	file, err := os.Lstat(path)
	must(t, err)
	return file.Mode().Perm(), int(file.Sys().(*syscall.Stat_t).Gid)
}

// TestRestoreAccess: clients can connect again after another program has changed the permissions of the socket.
// More permissions, such as those of an access control list, stay.
func TestRestoreAccess(t *testing.T) {
	gid := 12345
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: the group of a socket; only root can give to any group")
	}
	for _, test := range []struct {
		name     string
		happens  func(t *testing.T, path string)
		repaired bool
		mode     os.FileMode
	}{
		{"nothing happens", func(*testing.T, string) {}, false, 0o620},
		{"no permission is left", func(t *testing.T, path string) { must(t, os.Chmod(path, 0)) }, true, 0o620},
		{"only the owner may connect", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o600)) }, true, 0o620},
		{"others may connect as well", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) }, false,
			0o666},
		{"others may connect, the group may not", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o606)) },
			true, 0o620},
		{"it has another group", func(t *testing.T, path string) { must(t, os.Lchown(path, -1, 54321)) }, true, 0o620},
		{"it has another owner", func(t *testing.T, path string) { must(t, os.Lchown(path, 54321, -1)) }, false, 0o620},
		{"another file is there", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, nil, 0o604))
			must(t, os.Lchown(path, -1, gid))
		}, false, 0o604},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := socketPath(t)
			l, err := Listen("unix:"+path, Options{GID: &gid, Mode: 0o620})
			must(t, err)
			defer l.Close()
			test.happens(t, path)
			if repaired, err := l.RestoreAccess(); err != nil || repaired != test.repaired {
				t.Errorf("RestoreAccess: %v, %v, want %v", repaired, err, test.repaired)
			}
			if mode, group := accessOf(t, path); mode != test.mode || group != gid {
				t.Errorf("mode %o and group %d, want %o and %d", mode, group, test.mode, gid)
			}
			if again, err := l.RestoreAccess(); again || err != nil {
				t.Errorf("a second RestoreAccess: %v, %v", again, err)
			}
		})
	}
}

// TestRestoreAccessOfAnother: a process that does not own the file any more makes the socket again, or reports
// that clients cannot connect.
func TestRestoreAccessOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a socket of another owner; only root can give files away")
	}
	const user = 54321
	for _, owns := range []bool{true, false} { // the directory
		path := socketPath(t)
		dir := filepath.Dir(path)
		must(t, os.Chmod(dir, 0o755))
		must(t, os.Lchown(dir, user, -1))
		done := make(chan error)
		go func() {
			defer close(done)
			runtime.LockOSThread() // it ends with this goroutine
			syscall.RawSyscall(syscall.SYS_SETFSUID, user, 0, 0)
			l, err := Listen("unix:"+path, Options{Mode: 0o666})
			if err != nil {
				done <- err
				return
			}
			defer l.Close()
			syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
			must(t, errors.Join(os.Lchown(path, 0, 0), os.Chmod(path, 0)))
			if !owns {
				must(t, os.Lchown(dir, 0, 0))
			}
			syscall.RawSyscall(syscall.SYS_SETFSUID, user, 0, 0)
			repaired, err := l.RestoreAccess()
			if repaired != owns || (err == nil) != owns || err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("RestoreAccess: %v, %v", repaired, err)
			}
			if mode, _ := accessOf(t, path); owns != (mode == 0o666) {
				t.Errorf("mode %o", mode)
			}
			if c, err := net.Dial("unix", path); owns && err != nil {
				t.Error(err)
			} else if err == nil {
				c.Close()
			}
		}()
		must(t, <-done)
	}
}

// TestAccessOfAdopted: only systemd can repair its socket, which clients cannot reach.
func TestAccessOfAdopted(t *testing.T) {
	path := socketPath(t)
	systemd, err := net.Listen("unix", path)
	must(t, err)
	defer systemd.Close()
	must(t, os.Chmod(path, 0o660))
	l, err := Adopt(systemd, Options{})
	must(t, err)
	for mode, wrong := range map[os.FileMode]bool{0o660: false, 0o666: false, 0o600: true} {
		must(t, os.Chmod(path, mode))
		repaired, err := l.RestoreAccess()
		if repaired || (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "restart the socket unit") {
			t.Errorf("RestoreAccess with mode %o: %v, %v", mode, repaired, err)
		}
	}
}
