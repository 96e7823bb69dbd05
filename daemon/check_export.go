package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rcpt-milter/config"
)

// checkExport reports a directory or a program of export that does not exist. The daemon starts without them, and no
// table is made. The first start makes the directory of the store.
func (f *findings) checkExport(e config.Export, store string) {
	if e.File == "" {
		return
	}
	dir := filepath.Dir(e.File)
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && dir == filepath.Clean(store) {
	} else if err != nil {
		f.problem("export-file", fmt.Errorf("export.file: %w; create the directory, writable by the daemon", err))
	} else if !info.IsDir() {
		f.problem("export-file", fmt.Errorf("export.file: %s is not a directory; use another one", dir))
	}
	if len(e.Command) == 0 {
		return
	}
	if _, err := findProgram(e.Command[0]); err != nil {
		f.problem("export-command", fmt.Errorf("export.command: %w", err))
	}
}
