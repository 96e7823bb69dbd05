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
	name, stopped := l.file()
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

// RestoreAccess checks that the file of a unix socket has at least the permissions with which it was made, and the
// group of the options. Otherwise it sets them, and reports that it did. It makes the socket again if this process
// may not change the file. The error says why clients cannot connect. RestoreAccess does nothing if the socket is
// not at its path, which Restore repairs.
func (l *Listener) RestoreAccess() (repaired bool, err error) {
	l.restoring.Lock()
	defer l.restoring.Unlock()
	name, stopped := l.file()
	switch {
	case stopped:
		return false, nil
	case l.passed != nil && l.passed.isAt(l.passed.path) && !l.passed.isOpen(nil):
		return false, fmt.Errorf("the socket file %s that systemd made has lost permissions; stop the service, "+
			"restart the socket unit, and start the service", l.passed.path)
	case name == nil || !name.isAt(name.path) || name.isOpen(l.options.GID):
		return false, nil
	}
	if err = name.open(name.path, l.options.GID, l.options.Mode); err == nil {
		return true, nil
	}
	if removing := os.Remove(name.path); removing != nil {
		return false, fmt.Errorf("the socket file %s has lost its permissions or its group, which cannot be set "+
			"again: %w", name.path, err)
	}
	next, err := listenAt(name.path, l.options)
	if err != nil {
		return false, fmt.Errorf("the socket file %s cannot be made again: %w", name.path, err)
	}
	return l.replace(next), nil
}

// file returns the present file of the socket, which is nil on TCP, and whether the listener has stopped.
func (l *Listener) file() (name *socketFile, stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name, l.stopped
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
