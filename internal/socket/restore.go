package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// touchAfter is the age of a socket file at which Restore renews its times. Cleaners remove files
// by age, and some do not look whether a process has them open.
const touchAfter = time.Hour

// Restore checks that the file of a unix socket is at its path. If it is gone, Restore makes the
// socket again and reports that it did. Clients in the queue of the former socket are still
// served. The error says why clients cannot connect: an adopted socket, which only its owner can
// make again, or another file in the way; it wraps ErrInUse if another process listens there.
// Restore does nothing on TCP and after Withdraw.
func (l *Listener) Restore() (restored bool, err error) {
	l.restoring.Lock()
	defer l.restoring.Unlock()
	l.mu.Lock()
	name, stopped := l.name, l.stopped
	l.mu.Unlock()
	switch {
	case stopped:
		return false, nil
	case l.passed != nil && !l.passed.isAt(l.passed.path):
		return false, fmt.Errorf("the socket file %s that systemd made is gone; stop the service, restart the socket "+
			"unit, and start the service", l.passed.path)
	case name == nil:
		return false, nil
	case name.isAt(name.path):
		name.touch()
		return false, nil
	}
	next, err := listenAt(name.path, l.options)
	if err != nil {
		return false, fmt.Errorf("the socket file %s is gone and cannot be made again: %w", name.path, err)
	}
	return l.replace(next), nil
}

// replace continues with the socket of another listener. It reports false, and closes the other,
// if this one has stopped meanwhile.
func (l *Listener) replace(next *Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		next.Close()
		return false
	}
	before := l.current()
	l.sockets, l.name = append(l.sockets, next.sockets...), next.name
	before.SetDeadline(past) // wakes Accept, which then continues with the new socket
	return true
}

// touch renews the times of a file that has become old.
func (n *socketFile) touch() {
	now := time.Now()
	if file, err := os.Lstat(n.path); err == nil && now.Sub(file.ModTime()) > touchAfter {
		_ = os.Chtimes(n.path, now, now) // without effect, the file is made again when it is removed
	}
}

// MakeDir creates the directory of a socket, searchable by all, unless it exists. Its parent must
// exist. A directory under /run is gone after each boot.
func MakeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) // whatever the umask
	}
	return err
}
