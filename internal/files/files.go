// Package files reads the small files that the configuration names: passwords, keytabs, keys
// and certificates. Package config checks them, and package directory reads them before each
// bind. Both use the rules of this package, so a bind can use every file that passes the check.
//
// SyncDir is for packages that write files.
//
// Errors name the file once and state the remedy. No error contains any part of a secret.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Limits on the size of a file, in bytes, each far above any real one.
const (
	MaxPassword = 4 << 10
	MaxKey      = 4 << 10
	MaxKeytab   = 1 << 20
	MaxCA       = 16 << 20 // a bundle of all public authorities is a quarter of a megabyte
)

const (
	// settleTime is the age at which a file counts as completely written. A younger file is read
	// again: an editor or a shell empties a file before it writes the new content.
	settleTime = 100 * time.Millisecond

	// maxReads limits how often a file that keeps changing is read.
	maxReads = 10
)

// Read returns the content of a regular file. what names the kind of file in errors. Read reads
// a file that is being written again until it has not changed for 100 ms.
func Read(path, what string, limit int64) ([]byte, error) { return onDisk.read(path, what, limit) }

// reader reads files with an injected clock.
type reader struct {
	now   func() time.Time
	sleep func(time.Duration)
}

var onDisk = reader{now: time.Now, sleep: time.Sleep}

func (r reader) read(path, what string, limit int64) ([]byte, error) {
	for range maxReads {
		data, modified, err := readOnce(path, what, limit)
		age := r.now().Sub(modified)
		if err != nil || age < 0 || age >= settleTime {
			return data, err
		}
		r.sleep(settleTime - age)
	}
	return nil, fmt.Errorf("the %s file %s changes all the time; let it be written once", what, path)
}

// readOnce returns the content of a file and its modification time.
func readOnce(path, what string, limit int64) ([]byte, time.Time, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, Unusable(err, path, what)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, time.Time{}, Unusable(err, path, what)
	case !info.Mode().IsRegular():
		return nil, time.Time{}, fmt.Errorf("the %s file %s is not a regular file", what, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, time.Time{}, Unusable(err, path, what)
	case int64(len(data)) > limit:
		return nil, time.Time{}, fmt.Errorf("the %s file %s is larger than %d KiB", what, path, limit>>10)
	}
	if info, err = f.Stat(); err != nil { // after reading: the file may have changed meanwhile
		return nil, time.Time{}, Unusable(err, path, what)
	}
	return data, info.ModTime(), nil
}

// Unusable explains why a file cannot be used, and states the remedy.
func Unusable(err error, path, what string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return notExistError(fmt.Sprintf("the %s file %s does not exist", what, path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the %s file %s cannot be read by this user (uid %d); change its "+
			"owner or group", what, path, os.Geteuid())
	}
	return fmt.Errorf("the %s file cannot be read: %w", what, err)
}

// notExistError is the message for a file that does not exist.
type notExistError string

func (m notExistError) Error() string { return string(m) }

// Is makes errors.Is match fs.ErrNotExist.
func (m notExistError) Is(target error) bool { return target == fs.ErrNotExist }
