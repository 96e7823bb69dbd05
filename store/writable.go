package store

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// touch sets the times of a directory to now, the smallest write that there is. statfs and access do
// not show every file system that an error made read-only: Linux 6.15 and later leaves ext4's flags
// as they were.
func touch(dir string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, dir, nil, 0) }

// checkWritable returns ErrNotWritable if the file system of the store takes no writes, because it
// was mounted read-only or after an error. It keeps the result for Health, which must not wait for
// a disk.
func (s *Store) checkWritable() error {
	if s.config.ReadOnly { // read-only for good
		return nil
	}
	err := s.config.touch(s.config.Dir)
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EIO) {
		s.notWritable.Store(nil) // another account may not change the times, and can still write
		return nil
	}
	err = fmt.Errorf("store %s: %w: %w; check the disk, then mount its file system writable again",
		s.config.Dir, ErrNotWritable, err)
	s.notWritable.Store(&err)
	return err
}

// createFile creates a file without a name, which is gone at once.
func createFile(dir string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// checkCreate returns an error if no file can be created for lack of inodes, of a quota or of file descriptors.
// Badger would then neither close nor open. It keeps the result for Health.
func (s *Store) checkCreate() error {
	if s.config.ReadOnly { // read-only for good
		return nil
	}
	err := s.config.createFile(s.config.Dir)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("store %s: %w: no file can be created: %w; remove files from that file system",
			s.config.Dir, ErrNoSpace, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		err = fmt.Errorf("store %s: no file can be created: %w; raise the limit of open files (LimitNOFILE=)",
			s.config.Dir, err)
	default: // not every file system has files without names
		s.noFile.Store(nil)
		return nil
	}
	s.noFile.Store(&err)
	return err
}

// writeObstacle returns ErrNoSpace, ErrNotWritable or another error if nothing can be written.
func (s *Store) writeObstacle() error {
	if err := s.checkSpace(); err != nil {
		return err
	}
	if err := s.checkWritable(); err != nil {
		return err
	}
	return s.checkCreate()
}

// isObstacle reports whether a store can be opened as it is when the cause of an error has gone.
func isObstacle(err error) bool { return errors.Is(err, ErrNoSpace) || errors.Is(err, ErrNotWritable) }
