package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// nextSuffix ends the path of a socket that waits for the process before it to stop, and
// newSuffix the path of one that is not ready to be handed over yet.
const (
	nextSuffix = ".next"
	newSuffix  = ".new"
)

// MaxPath is the longest path of a unix socket in bytes: sun_path of unix(7) less the final NUL
// and the suffix of a waiting socket.
const MaxPath = 107 - len(nextSuffix)

// dialWait limits the check whether a process listens on an existing socket.
const dialWait = 2 * time.Second

// prepareUnix makes the socket at its path if no process listens there. Otherwise it makes the
// socket beside it, and moves it to the path if that is free by then.
func prepareUnix(path string, o Options) (*Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of a unix socket must be absolute")
	}
	if len(path) > MaxPath {
		return nil, fmt.Errorf("the path of a unix socket has at most %d bytes, this one has %d; choose a shorter path",
			MaxPath, len(path))
	}
	occupied, err := served(path)
	if err != nil {
		return nil, err
	}
	if err := removeWaiting(path); err != nil {
		return nil, explain(err, path)
	}
	if !occupied {
		l, err := listenAt(path, o)
		if !errors.Is(err, ErrInUse) {
			return l, err
		}
	}
	return waitBeside(path, o)
}

// listenAt makes the socket at its path. Only so it has this path as its name in /proc/net/unix,
// by which systemd-tmpfiles spares it. It replaces a socket whose process is gone.
func listenAt(path string, o Options) (*Listener, error) {
	occupied, err := served(path)
	if occupied {
		err = ErrInUse
	}
	if err == nil {
		err = remove(path)
	}
	if err != nil {
		return nil, explain(err, path)
	}
	n := &socketFile{path: path, new: path, next: path + nextSuffix}
	return n.listen(o)
}

// waitBeside makes the socket beside its path without permissions for others, widens them, and
// moves the socket to the path if that is free. At no moment may more clients connect than
// should, and at no moment is there no socket because this one replaces another.
//
// The socket keeps the name newSuffix in /proc/net/unix. The kernel stores the text given to bind(2),
// which only succeeds while no file has that path, and does not follow a rename. To bind at the path
// itself, the former file has to be gone before: clients would find no socket, and then one that does
// not listen yet. A text through a directory descriptor (/proc/self/fd/...) would be the name instead.
// A mount name space in which the path is free would do, but the unit and containers forbid it.
func waitBeside(path string, o Options) (*Listener, error) {
	n := &socketFile{path: path, new: path + newSuffix, next: path + nextSuffix}
	own, err := n.listen(o)
	if err != nil {
		return nil, err
	}
	if err = n.wait(); err == nil {
		// Only now the process at the path cannot stop without handing it over.
		err = n.take()
	}
	if err != nil && !errors.Is(err, ErrInUse) {
		own.Close()
		return nil, err
	}
	return own, nil
}

// removeWaiting removes the sockets beside a path whose processes are gone. If a process waits
// there, it returns ErrInUse.
func removeWaiting(path string) error {
	for _, name := range []string{path + newSuffix, path + nextSuffix} {
		if waits, err := served(name); err != nil {
			return err
		} else if waits {
			return fmt.Errorf("another process already waits at %s to take over: %w", name, ErrInUse)
		}
		if err := remove(name); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file that may be missing.
func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// socketFile is the file of a socket that this process made, moves and removes.
type socketFile struct {
	path string
	new  string // where it is made
	next string // where it waits
	file fs.FileInfo
	gone sync.Once // the inode number of a removed file can come back as that of another
}

// listen makes the socket, which begins without permissions for others, and widens them.
func (n *socketFile) listen(o Options) (*Listener, error) {
	l, err := bindClosed(n.new)
	if err != nil {
		return nil, explain(err, n.path)
	}
	own := &Listener{sockets: []kernel{l}, name: n, options: o}
	if n.file, err = os.Lstat(n.new); err == nil {
		err = n.open(n.new, o.GID, o.Mode)
	}
	if opened, failed := os.Lstat(n.new); failed == nil && n.isAt(n.new) {
		n.file = opened
	}
	if err != nil {
		own.Close()
		return nil, err
	}
	return own, nil
}

// passedFile returns the file of a socket that another process made. It returns nil if this
// process cannot see it.
func passedFile(path string) *socketFile {
	file, err := os.Lstat(path)
	if !filepath.IsAbs(path) || err != nil || file.Mode().Type() != fs.ModeSocket {
		return nil
	}
	return &socketFile{path: path, file: file}
}

// wait moves the socket, now ready, to the path at which it waits.
func (n *socketFile) wait() error { return os.Rename(n.new, n.next) }

// bindClosed makes a socket to which only its owner can connect. Linux gives the file the mode of
// the unbound socket, less the umask; setting the umask instead would affect the whole process.
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

// open sets the group and the permissions of the file at a path.
func (n *socketFile) open(path string, gid *int, mode os.FileMode) error {
	if gid != nil {
		if err := os.Lchown(path, -1, *gid); err != nil {
			return fmt.Errorf("giving the socket to group %d: %w; run as root or as a member of the group", *gid, err)
		}
	}
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(path, mode.Perm())
}

// isOpen reports whether the file has the group and, at least, the permissions that it had when the socket was
// ready. A file that cannot be read counts as such.
func (n *socketFile) isOpen(gid *int) bool {
	now, err := os.Lstat(n.path)
	if err != nil || n.file == nil {
		return true
	}
	if stat, ok := now.Sys().(*syscall.Stat_t); ok && gid != nil && int(stat.Gid) != *gid {
		return false
	}
	return n.file.Mode().Perm()&^now.Mode().Perm() == 0
}

// take moves the socket to its path, unless it is there or another process listens there.
func (n *socketFile) take() error {
	if n.isAt(n.path) {
		return nil
	}
	occupied, err := served(n.path)
	switch {
	case err != nil:
		return err
	case n.isAt(n.path): // served has just reached this socket
		return nil
	case occupied:
		return ErrInUse
	}
	if err = os.Rename(n.next, n.path); err != nil && n.isAt(n.path) {
		err = nil // the process before moved it just now
	}
	return err
}

// withdraw removes the socket from its path, unless another one has replaced it. A socket that
// waits takes its place in one atomic step.
func (n *socketFile) withdraw() {
	n.gone.Do(func() {
		for _, name := range []string{n.path + newSuffix, n.next} {
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

// isAt reports whether the socket is at a path.
func (n *socketFile) isAt(path string) bool {
	now, err := os.Lstat(path)
	return err == nil && n.file != nil && os.SameFile(now, n.file)
}

// served reports whether a process listens on a socket. A file that is not a socket is an error.
func served(path string) (bool, error) {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain(err, path)
	}
	if file.Mode().Type() != fs.ModeSocket {
		return false, fmt.Errorf("%s exists and is not a socket (%v); move it away or choose another path",
			path, file.Mode())
	}
	peer, err := net.DialTimeout("unix", path, dialWait)
	if err == nil {
		peer.Close()
		return true, nil
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cannot determine whether a process listens on the existing socket: %w", err)
	}
	return false, nil
}

// explain adds the remedy to an error of making a socket at a path.
func explain(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist; "+
			"create it, writable by this process and searchable by its clients", dir)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory; choose another path", dir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to make a socket in %s; make it writable by this process", dir)
	case errors.Is(err, syscall.EADDRINUSE):
		return ErrInUse
	}
	return err
}
