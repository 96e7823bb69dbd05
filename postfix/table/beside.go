package table

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A file that Replace writes beside another has the name ".NAME.NUMBER", with a number of 20 digits, and
// is locked while its process writes it. So an unlocked file of such a name is abandoned: its
// process was killed. Other programs use fewer digits, such as times in nanoseconds.
const (
	besideDigits = 20
	besideFirst  = 10_000_000_000_000_000_000 // the first number with so many digits
)

// createBeside creates and locks a file with a name of its own beside path. The umask applies.
func createBeside(path string, mode fs.FileMode) (f *os.File, err error) {
	for range 100 {
		name := fmt.Sprintf(".%s.%d", filepath.Base(path), besideFirst+rand.Uint64N(math.MaxUint64-besideFirst))
		f, err = os.OpenFile(filepath.Join(filepath.Dir(path), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil || lockBeside(f) {
			return f, err
		}
		f.Close()
		err = fmt.Errorf("%s was removed while it was created", name)
	}
	return nil, err
}

// lockBeside locks a new file. It returns false if removeAbandoned of another process has removed the
// file before. A file system without locks has none for removeAbandoned either.
func lockBeside(f *os.File) bool {
	for errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX), syscall.EINTR) {
	}
	return isAt(f, f.Name())
}

// isAt reports whether a path is that of an open file.
func isAt(f *os.File, path string) bool {
	here, err := os.Lstat(path)
	if err != nil {
		return false
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(here, open)
}

// removeAbandoned removes the files beside path that createBeside made and no process has locked. What
// it cannot read or remove stays: it harms nothing but the space on the disk.
func removeAbandoned(path string) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if isBeside(name, filepath.Base(path)) {
			removeUnlocked(filepath.Join(filepath.Dir(path), name))
		}
	}
}

// isBeside reports whether createBeside may have made a file beside the one with this name.
func isBeside(name, of string) bool {
	number, ok := strings.CutPrefix(name, "."+of+".")
	if !ok || len(number) != besideDigits {
		return false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return err == nil && n >= besideFirst
}

// removeUnlocked removes a regular file unless a process has locked it.
func removeUnlocked(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && isAt(f, path) {
		os.Remove(path)
	}
}
