package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
	"rcpt-milter/store"
)

func (a *app) checkCommand() *cobra.Command {
	var live bool
	command := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the store",
		Long: "Checks the configuration, the files it names and the store, and with --live each domain controller:\n" +
			"name, clock, certificate, account and password, the right to see deletions, hidden attributes, the\n" +
			"Global Catalog; and of the organization: recipients in the cloud, domains that no directory follows,\n" +
			"accepted domains of Exchange that the configuration lacks, enforced domains without an address. It\n" +
			"reads all objects of each directory, and names values that cannot be used as addresses, objects that\n" +
			"hide uSNChanged, and recipients of our domains outside bases, public folders first. Each finding says\n" +
			"what to do about it.\n" +
			"It changes nothing, but that it finishes what a daemon that was killed has left in the store, as the\n" +
			"next start would.\n\n" +
			"Exit status: 0 all is well, 1 something is not, 78 the configuration is bad.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return a.check(command.Context(), live) },
	}
	command.Flags().BoolVar(&live, "live", false, "connect to the domain controllers too")
	return command
}

func (a *app) check(ctx context.Context, live bool) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	r := &findings{app: a}
	warnings, err := c.CheckFiles()
	if errors.Is(err, config.ErrMissing) {
		return &exit{exitConfig, err}
	}
	if err != nil {
		r.problem(err)
	}
	for _, w := range append(c.Warnings(), warnings...) {
		r.warning("%v", w)
	}
	r.good("configuration %s: %s, %s", a.configPath, text.Count(len(c.Domains), "domain", "domains"),
		text.Count(len(c.Directories), "directory", "directories"))
	for _, d := range c.Directories {
		if d.Bind.Keytab == "" {
			continue
		}
		if err := directory.CheckKeytab(d.Bind.Keytab, d.Bind.Principal); err != nil {
			r.problem(fmt.Errorf("directory %s: %w", d.Name, err))
		}
	}
	r.checkAcceptFiles(c)
	r.checkStore(ctx, c)
	if live {
		r.checkLive(ctx, c)
	}
	if r.bad > 0 {
		return &exit{status: exitFailure}
	}
	return nil
}

// findings are printed as they are made: what is good and what may be one day to
// stdout, what is bad to stderr.
type findings struct {
	*app
	bad int
}

func (r *findings) good(format string, args ...any) {
	fmt.Fprintf(r.stdout, "ok: %s\n", text.Printable(fmt.Sprintf(format, args...)))
}

func (r *findings) warning(format string, args ...any) {
	fmt.Fprintf(r.stdout, "warning: %s\n", text.Printable(fmt.Sprintf(format, args...)))
}

func (r *findings) problem(err error) {
	r.bad++
	r.report(err)
}

// checkStore opens the store, which checks its files, and counts it again: addresses,
// objects and digest must be as its totals say. Of one that a daemon has open the daemon
// is asked to do so.
func (r *findings) checkStore(ctx context.Context, c *config.Config) {
	owner, own := ownerOfDir(c.Store.Dir)
	if !own {
		r.warning("store %s not checked: it belongs to %s, and files that this user would make in it could lock the daemon out; run this as %s",
			c.Store.Dir, owner, owner)
		return
	}
	s, err := openStored(ctx, c)
	switch {
	case errors.Is(err, store.ErrMissing):
		r.good("store %s: none yet, the first start makes it", c.Store.Dir)
		return
	case errors.Is(err, store.ErrLocked):
		r.checkRunning(ctx, c)
		return
	case err != nil:
		r.problem(err)
		return
	}
	defer s.Close()
	if err := s.Recount(); err != nil {
		r.problem(err)
		return
	}
	r.checkPopulated(s, c)
	t := s.Totals()
	r.good("store %s: %s of %s, digest %s", c.Store.Dir, text.Count(t.Addresses, "address", "addresses"),
		text.Count(t.Objects, "object", "objects"), t.Digest)
}

func (r *findings) checkRunning(ctx context.Context, c *config.Config) {
	client := control.NewClient(c.Control.Address)
	if s, err := client.Status(ctx); err == nil {
		r.warnEmpty(s.EmptyDomains)
	}
	v, err := client.Verify(ctx)
	switch {
	case errors.Is(err, control.ErrNotReachable):
		r.problem(fmt.Errorf("store %s is in use by another process, and %w", c.Store.Dir, err))
	case err != nil:
		r.problem(err)
	default:
		r.good("store %s: in use by the daemon, %s of %s, digest %s, counted again by it", c.Store.Dir,
			text.Count(v.Addresses, "address", "addresses"), text.Count(v.Objects, "object", "objects"), v.Digest)
	}
}

// ownerOfDir says whose directory it is, and whether it is ours. One that is not
// there, or cannot be looked at, is for whoever opens it to complain of.
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
