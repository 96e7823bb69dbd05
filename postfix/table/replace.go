package table

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"rcpt-milter/internal/files"
)

// Replace writes a file beside path, syncs it and renames it to path, keeping owner and
// mode. A new file has mode 0640, less the umask. It follows a symbolic link. An error leaves
// path unchanged. Replace first removes what a killed process left beside path.
func Replace(path string, write func(io.Writer) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	before, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if before != nil && !before.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file, and cannot be replaced by one", path)
	}
	mode := newMode
	if before != nil {
		mode = 0o600 // resemble widens it
	}
	removeAbandoned(path)
	f, err := createBeside(path, mode)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := resemble(f, before); err != nil {
		return err
	}
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return files.SyncDir(filepath.Dir(path))
}

// newMode is the mode of a new file. The list of all recipients is not for every account.
const newMode fs.FileMode = 0o640

// resemble sets owner and mode of a file to those of another, if there is one.
func resemble(f *os.File, before fs.FileInfo) error {
	if before == nil {
		return nil
	}
	stat, ok := before.Sys().(*syscall.Stat_t)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	own, known := info.Sys().(*syscall.Stat_t)
	if ok && known && (own.Uid != stat.Uid || own.Gid != stat.Gid) {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return fmt.Errorf("cannot keep its owner: %w", err)
		}
	}
	return f.Chmod(before.Mode().Perm()) // last, because chown may clear mode bits
}
