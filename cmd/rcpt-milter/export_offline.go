package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/milter"
	"rcpt-milter/postfix"
	"rcpt-milter/store"
)

// storedRecipients makes the list from the store of a daemon that does not run. away is
// why nobody answers.
func (a *app) storedRecipients(ctx context.Context, q control.ExportQuery, away error, visit func(control.ExportEvent) error) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	if owner, own := ownerOfDir(c.Store.Dir); !own {
		return fmt.Errorf("%w; its store %s belongs to %s: run this as %s to read it", away, c.Store.Dir, owner, owner)
	}
	s, err := store.Open(ctx, store.Config{Dir: c.Store.Dir, MinFree: c.Store.MinFree, MustExist: true})
	if errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrMissing) {
		return away
	}
	if err != nil {
		return fmt.Errorf("%w, and %w", away, err)
	}
	defer s.Close()
	files := postfix.NewTables(postfix.TablesConfig{})
	prepared, err := files.Prepare(c.AcceptFiles)
	if err != nil {
		return &exit{exitConfig, fmt.Errorf("accept_files: %w", err)}
	}
	files.Use(prepared)
	stored := storedIndex{s, c, a.now()}
	policy, err := newPolicy(c, stored, files, live{}, a.now)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "rcpt-milter: the daemon does not run; this is what its store %s holds\n", c.Store.Dir)
	e := exporter{config: c, store: s, files: files.Snapshot(), policy: policy, query: q, tell: visit, directories: stored.directories()}
	return e.run(ctx, a.now())
}

// storedIndex is the index of a store that nobody keeps up.
type storedIndex struct {
	store  *store.Store
	config *config.Config
	now    time.Time
}

var _ milter.Index = storedIndex{}

func (i storedIndex) Lookup(a address.Address) (milter.Entry, error) {
	return index{store: i.store}.Lookup(a)
}

func (i storedIndex) Freshness(domain string) milter.Freshness {
	worst := milter.Freshness{State: milter.FreshnessFresh}
	for _, d := range i.config.Directories {
		if s := i.state(d.Name); d.MayOwn(domain) && weight(s) > weight(worst.State) {
			worst = milter.Freshness{State: s, Directory: d.Name, Since: i.store.Directory(d.Name).LastGood()}
		}
	}
	return worst
}

// state is how far a directory can be trusted by the age of its last good pass.
func (i storedIndex) state(name string) milter.FreshnessState {
	d := i.store.Directory(name)
	switch age := i.now.Sub(d.LastGood()); {
	case !d.ReadBy(i.now):
		return milter.FreshnessNotReady
	case age > i.config.StaleAfter:
		return milter.FreshnessStale
	case age > i.config.LateAfter:
		return milter.FreshnessLate
	default:
		return milter.FreshnessFresh
	}
}

func (i storedIndex) directories() []control.ExportDirectory {
	var all []control.ExportDirectory
	for _, d := range i.config.Directories {
		all = append(all, control.ExportDirectory{Name: d.Name, State: control.State(i.state(d.Name).String()),
			LastSuccess: control.Time{Time: i.store.Directory(d.Name).LastGood()}})
	}
	return all
}
