package files

import "golang.org/x/sys/unix"

// FreeSpace returns how many bytes an unprivileged process may still write below dir.
func FreeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// FreeFiles returns how many files may still be created below dir. It returns limited false if the file system
// states no limit, as those that create inodes on demand do.
func FreeFiles(dir string) (free uint64, limited bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return st.Ffree, st.Files > 0, nil
}
