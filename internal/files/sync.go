package files

import "os"

// SyncDir writes the entries of a directory to disk: after a rename, the new name survives a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
