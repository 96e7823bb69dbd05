package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// nextSuffix names the socket of a daemon that waits for the one before it to stop, and
// newSuffix one that is not ready to be handed over yet.
const (
	nextSuffix = ".next"
	newSuffix  = ".new"
)

// maxSocketPath is the longest path of a unix socket: sun_path of unix(7) less its final
// NUL and what the one that waits is named more.
const maxSocketPath = 107 - len(nextSuffix)

// dialWait bounds the question whether somebody serves a socket that exists already.
const dialWait = 2 * time.Second

// prepareUnix makes the socket beside its path, with no permissions for others, widens
// them, and moves it to the path if nobody is there: there is no moment when more may
// connect than should, or when there is no socket because we replace one.
func prepareUnix(path string, o ListenOptions) (*Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of a unix socket must be absolute")
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of a unix socket can have %d octets at most, this one has %d: choose a shorter one", maxSocketPath, len(path))
	}
	gid, err := groupID(o.Group)
	if err != nil {
		return nil, err
	}
	if _, err := served(path); err != nil {
		return nil, err
	}
	name, l, err := newSocketFile(path)
	if err != nil {
		return nil, explain(err, path)
	}
	own := &Listener{kernel: l, name: name}
	if err = name.open(gid, o.Mode); err == nil {
		err = name.wait()
	}
	// Only now nobody can leave the path without handing it over.
	if err == nil {
		err = name.take()
	}
	if err != nil && !errors.Is(err, ErrInUse) {
		own.Close()
		return nil, err
	}
	return own, nil
}

// socketFile is the file of a socket that is ours to move and to remove.
type socketFile struct {
	path string
	new  string // where it is made
	next string // where it waits
	file fs.FileInfo
	gone sync.Once // the number of a removed file can come back as another's
}

// newSocketFile makes a socket, where none waits yet. One that a process left behind
// which is gone is replaced.
func newSocketFile(path string) (*socketFile, *net.UnixListener, error) {
	n := &socketFile{path: path, new: path + newSuffix, next: path + nextSuffix}
	for _, name := range []string{n.new, n.next} {
		if waits, err := served(name); err != nil {
			return nil, nil, err
		} else if waits {
			return nil, nil, fmt.Errorf("another daemon waits at %s to take over already: %w", name, ErrInUse)
		}
	}
	if err := os.Remove(n.new); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	l, err := bindClosed(n.new)
	if err != nil {
		return nil, nil, err
	}
	if n.file, err = os.Lstat(n.new); err != nil {
		l.Close()
		return nil, nil, err
	}
	return n, l, nil
}

// wait has the socket, which is ready, wait for its place.
func (n *socketFile) wait() error { return os.Rename(n.new, n.next) }

// bindClosed makes a socket to which only its owner can connect. Linux gives the file
// the mode of the unbound socket, less the umask; setting the umask instead would
// touch the whole process.
func bindClosed(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	socket := l.(*net.UnixListener)
	socket.SetUnlinkOnClose(false)
	return socket, nil
}

// open gives the socket to those who shall connect.
func (n *socketFile) open(gid int, mode os.FileMode) error {
	if gid >= 0 {
		if err := os.Lchown(n.new, -1, gid); err != nil {
			return fmt.Errorf("giving the socket to group %d: %w: run as root or as a member of the group", gid, err)
		}
	}
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(n.new, mode.Perm())
}

// take moves the socket to its path, unless it was moved there or somebody serves the
// path.
func (n *socketFile) take() error {
	if n.isAt(n.path) {
		return nil
	}
	occupied, err := served(n.path)
	switch {
	case err != nil:
		return err
	case n.isAt(n.path): // we have just asked ourselves
		return nil
	case occupied:
		return ErrInUse
	}
	if err = os.Rename(n.next, n.path); err != nil && n.isAt(n.path) {
		err = nil // it was moved in this moment
	}
	return err
}

// withdraw takes the socket away from its path, unless another stands there by now. One
// that waits to take over gets the place in the same moment.
func (n *socketFile) withdraw() {
	n.gone.Do(func() {
		for _, name := range []string{n.new, n.next} {
			if n.isAt(name) {
				os.Remove(name)
			}
		}
		if !n.isAt(n.path) {
			return
		}
		if waiting, err := os.Lstat(n.next); err == nil && waiting.Mode().Type() == fs.ModeSocket {
			if os.Rename(n.next, n.path) == nil {
				return
			}
		}
		os.Remove(n.path)
	})
}

// isAt reports whether our socket stands there.
func (n *socketFile) isAt(path string) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, n.file)
}

// served reports whether somebody answers on a socket. Whatever is there and is no
// socket is an error.
func served(path string) (bool, error) {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain(err, path)
	}
	if file.Mode().Type() != fs.ModeSocket {
		return false, fmt.Errorf("%s exists and is no socket (%v): move it away, or choose another path", path, file.Mode())
	}
	peer, err := net.DialTimeout("unix", path, dialWait)
	if err == nil {
		peer.Close()
		return true, nil
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("a socket is there, and it cannot be told whether somebody serves it: %w", err)
	}
	return false, nil
}

// explain turns what the system says about making a socket at path into what to do.
func explain(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist: create it, writable for this daemon and open to the MTA", dir)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory: choose another path", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to make a socket in %s: make it writable for this daemon", dir)
	case errors.Is(err, syscall.EADDRINUSE):
		return ErrInUse
	}
	return err
}

// groupID finds a group by name or number; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	found, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q: create it, or name another for the socket", group)
	}
	return strconv.Atoi(found.Gid)
}
