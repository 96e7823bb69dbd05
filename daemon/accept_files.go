package daemon

import (
	"context"
	"path/filepath"
	"time"

	"rcpt-milter/config"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// copiesDir is the directory of the last good copies of accept files, in that of the store. A damaged store
// that is set aside leaves it where it is.
const copiesDir = "accept-files"

// copiesOf returns the directory of the copies of a configuration.
func copiesOf(c *config.Config) string { return filepath.Join(c.Store.Dir, copiesDir) }

// filesWithCopy returns the accept files that have a last good copy on disk.
func filesWithCopy(c *config.Config) (files []string) {
	for _, file := range c.AcceptFiles {
		if tables.HasCopy(copiesOf(c), file) {
			files = append(files, file)
		}
	}
	return files
}

// newAcceptFiles makes the tables of the accept files. Their copies have the limits of the store, and like
// the store they belong to the daemon alone: a command that reads the store of a stopped daemon writes none.
func (d *daemon) newAcceptFiles(ctx context.Context, at store.Config) *tables.Files {
	return tables.NewFiles(tables.Config{
		Log: d.log, Judged: func(domain string) bool { return d.config.Load().HasEntry(domain) },
		Rest: d.fileRest, Wait: func(rest time.Duration) bool { return d.ending.pause(ctx, rest) },
		Copies: tables.Copies{Dir: filepath.Join(at.Dir, copiesDir), ReadOnly: at.ReadOnly, MinFree: at.MinFree,
			Free: at.FreeSpace},
	})
}
