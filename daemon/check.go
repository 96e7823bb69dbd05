package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
	"rcpt-milter/store"
)

// Level is the severity of a finding.
type Level int

const (
	Good    Level = iota // works
	Warning              // works now, but may fail later
	Problem              // does not work
)

// String returns the level as check prints it.
func (l Level) String() string {
	switch l {
	case Good:
		return "ok"
	case Warning:
		return "warning"
	}
	return "problem"
}

// Finding is one result of Check.
type Finding struct {
	Name  string // kind of finding, such as "certificate"; stable between versions
	Level Level
	Text  string // the fact, then the remedy
	Err   error  // cause of a problem, with the same text; nil for other levels
}

// findings reports each result as soon as it is known, because a check can take minutes.
type findings struct {
	visit    func(Finding)
	problems int
}

func (f *findings) good(name, format string, args ...any) {
	f.visit(Finding{Name: name, Level: Good, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) warning(name, format string, args ...any) {
	f.visit(Finding{Name: name, Level: Warning, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) problem(name string, err error) {
	f.problems++
	f.visit(Finding{Name: name, Level: Problem, Text: err.Error(), Err: err})
}

// CheckOptions determine what Check examines.
type CheckOptions struct {
	ConfigPath string // shown in findings
	Config     *config.Config
	Live       bool // connect to the domain controllers
	Now        func() time.Time
}

// Check checks a configuration, the files that it names, and the store. If Live is set, it also checks each
// domain controller. It calls visit with each finding as soon as it is known. It returns an ErrConfig if a file
// that the configuration names does not exist.
func Check(ctx context.Context, o CheckOptions, visit func(Finding)) error {
	c, f := o.Config, &findings{visit: visit}
	warnings, err := c.CheckFiles(filesWithCopy(c)...)
	if errors.Is(err, config.ErrMissing) {
		return configError{err}
	}
	usable := err == nil
	if !usable {
		f.problem("files", err)
	}
	for _, w := range append(c.Warnings(), warnings...) {
		f.warning("configuration", "%v", w)
	}
	if usable {
		f.good("configuration",
			"configuration %s: %s, %s", o.ConfigPath, text.Count(len(c.Domains), "domain", "domains"),
			text.Count(len(c.Directories), "directory", "directories"))
	}
	for _, d := range c.Directories {
		if d.Bind.Keytab == "" {
			continue
		}
		if err := directory.CheckKeytab(d.Bind.Keytab, d.Bind.Principal); err != nil {
			f.problem("keytab", fmt.Errorf("directory %s: %w", d.Name, err))
		}
	}
	f.checkAcceptFiles(c, o.Now)
	f.checkExport(c.Export, c.Store.Dir)
	f.checkStore(ctx, c)
	if o.Live {
		f.checkLive(ctx, c, o.Now)
	}
	return nil
}

// checkStore opens the store, which verifies its files, and compares the addresses, objects and digest with the
// totals. If a daemon has the store open, checkStore asks that daemon to verify it.
func (f *findings) checkStore(ctx context.Context, c *config.Config) {
	owner, own := ownerOfDir(c.Store.Dir)
	if !own {
		f.warning("store-owner",
			"store %s not checked: it belongs to %s, and files that this user would make in it could lock the daemon "+
				"out; run this as %s", c.Store.Dir, owner, owner)
		return
	}
	s, err := openStored(ctx, c)
	switch {
	case errors.Is(err, store.ErrMissing):
		f.good("store", "store %s: none yet, the first start makes it", c.Store.Dir)
		return
	case errors.Is(err, store.ErrLocked):
		f.checkRunning(ctx, c)
		return
	case err != nil:
		f.problem("store", err)
		return
	}
	defer s.Close()
	if err := s.Recount(); err != nil {
		f.problem("store", err)
		return
	}
	f.checkEmptyDomains(s, c)
	t := s.Totals()
	f.good("store", "store %s: %s of %s, digest %s", c.Store.Dir, text.Count(t.Addresses, "address", "addresses"),
		text.Count(t.Objects, "object", "objects"), t.Digest)
}

// checkRunning asks the running daemon to verify its store.
func (f *findings) checkRunning(ctx context.Context, c *config.Config) {
	client := control.NewClient(c.Control.Address)
	if s, err := client.Status(ctx); err == nil {
		for _, domain := range s.EmptyDomains {
			f.warning("empty-domain", "%s", s.EmptyDomainText(domain))
		}
	}
	v, err := client.Verify(ctx)
	switch {
	case errors.Is(err, control.ErrNotReachable):
		f.problem("store-in-use", fmt.Errorf("store %s is in use by another process, and %w", c.Store.Dir, err))
	case err != nil:
		f.problem("store", err)
	default:
		f.good("store", "store %s: in use by the daemon, %s of %s, digest %s, counted again by it", c.Store.Dir,
			text.Count(v.Addresses, "address", "addresses"), text.Count(v.Objects, "object", "objects"), v.Digest)
	}
}

// ownerOfDir returns the owner of a directory, and whether this process runs as the owner. If the directory
// cannot be read, it reports true: opening the directory then returns the error.
func ownerOfDir(dir string) (owner string, own bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() || errors.Is(err, fs.ErrNotExist) {
		return "", true
	}
	uid := strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username, false
	}
	return "uid " + uid, false
}
