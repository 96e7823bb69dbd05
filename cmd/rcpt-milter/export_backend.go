package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// exportBatch is how many recipients are told at once.
const exportBatch = 500

func (b backend) Export(ctx context.Context, q control.ExportQuery, tell func(control.ExportEvent) error) error {
	c := b.config.Load()
	policy, err := newPolicy(c, b.index(), b.files, live{}, time.Now)
	if err != nil {
		return err
	}
	e := exporter{config: c, store: b.store, files: b.files.Snapshot(), policy: policy, query: q, tell: tell}
	for _, d := range b.follower.Directories() {
		e.directories = append(e.directories, control.ExportDirectory{Name: d.Name, State: d.State, LastSuccess: d.LastSuccess})
	}
	return e.run(ctx, b.now())
}

// exporter makes the list of recipients of one configuration. The policy says who is one:
// asked as an outside sender would ask, so that the list is what the edge does.
type exporter struct {
	config      *config.Config
	store       *store.Store
	files       []*tables.Table // of accept_files
	policy      *policy.Policy
	directories []control.ExportDirectory
	query       control.ExportQuery
	tell        func(control.ExportEvent) error

	ctx   context.Context
	batch []control.Recipient
}

func (e *exporter) run(ctx context.Context, now time.Time) error {
	e.ctx = ctx
	head := e.head(now)
	if head.State == control.NotReady && !e.query.Force {
		return fmt.Errorf("%s not been read in full yet, and its recipients would be missing; wait for it, or force it", e.unread())
	}
	if err := e.tell(control.ExportEvent{Head: &head}); err != nil {
		return err
	}
	for _, part := range []func() error{e.index, e.aliased, e.accepted, e.filed, e.always, e.passed, e.flush} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) head(now time.Time) control.ExportHead {
	totals := e.store.Totals()
	head := control.ExportHead{Version: programVersion(), Time: control.Time{Time: now}, State: control.Fresh, Addresses: totals.Addresses,
		Digest: totals.Digest, Domains: map[string]string{}, Directories: e.directories, Unlisted: []string{}}
	for domain, mode := range e.config.Domains {
		head.Domains[domain] = string(mode)
		if mode == config.Pass && strings.HasPrefix(domain, ".") {
			head.Unlisted = append(head.Unlisted, "all recipients in sub-domains of "+domain[1:]+", which are not judged")
		}
	}
	slices.Sort(head.Unlisted)
	for _, pattern := range e.config.AcceptPatterns {
		head.Unlisted = append(head.Unlisted, "what matches "+pattern+" (accept_patterns)")
	}
	for _, d := range e.directories {
		head.State = control.Worst(head.State, d.State)
	}
	return head
}

// unread names the directories that are not ready, as the begin of a sentence.
func (e *exporter) unread() string {
	var names []string
	for _, d := range e.directories {
		if d.State == control.NotReady {
			names = append(names, d.Name)
		}
	}
	if len(names) == 1 {
		return "directory " + names[0] + " has"
	}
	return "directories " + strings.Join(names, ", ") + " have"
}

func (e *exporter) add(r control.Recipient) error {
	e.batch = append(e.batch, r)
	if len(e.batch) < exportBatch {
		return nil
	}
	return e.flush()
}

func (e *exporter) flush() error {
	if len(e.batch) == 0 {
		return nil
	}
	batch := e.batch
	e.batch = nil
	return e.tell(control.ExportEvent{Recipients: batch})
}

// judge asks the policy about a canonical address.
func (e *exporter) judge(a address.Address) policy.Decision {
	return e.policy.Decide(e.ctx, policy.Query{Recipient: a.String()})
}

// index lists who is known to a directory, and not refused by the configuration.
func (e *exporter) index() error {
	return e.store.Addresses(func(a address.Address, restricted bool) error {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		r := control.Recipient{Address: a.String(), Source: control.SourceIndex}
		switch d := e.judge(a); d.Verdict {
		case policy.VerdictDenylisted:
			return nil
		case policy.VerdictNotOurs:
			if !e.query.All {
				return nil
			}
		case policy.VerdictKnown, policy.VerdictAllowlisted, policy.VerdictAlways:
		case policy.VerdictError:
			return d.Err
		default: // what comes below row 6 is about somebody who is restricted
			r.Restricted = restricted
		}
		return e.add(r)
	})
}

// known reports whether the index has an address, which is then in the list already.
func (e *exporter) known(a address.Address) (bool, error) {
	p, err := e.store.Lookup(a)
	return p.Known, err
}

// accepted lists what accept names.
func (e *exporter) accepted() error {
	for _, text := range e.config.Accept {
		if a, err := address.Parse(text); err == nil {
			if known, err := e.known(a); err != nil || known {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := e.add(control.Recipient{Address: text, Source: control.SourceAccept}); err != nil {
			return err
		}
	}
	return nil
}

// filed lists what accept_files name.
func (e *exporter) filed() error {
	for i, table := range e.files {
		for key := range table.All() {
			if err := e.ctx.Err(); err != nil {
				return err
			}
			listed, err := e.listedBy(i, key)
			if err != nil {
				return err
			}
			if listed {
				if err := e.add(control.Recipient{Address: key, Source: control.SourceFile}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// listedBy reports whether a key is in the list only because the file with this number
// has it.
func (e *exporter) listedBy(file int, key string) (bool, error) {
	if slices.Contains(e.config.Accept, key) || slices.ContainsFunc(e.files[:file], func(t *tables.Table) bool { return t.Has(key) }) {
		return false, nil
	}
	a, err := address.Parse(key)
	if err != nil { // @domain
		probe, err := address.Parse("probe" + key)
		return err == nil && (e.query.All || e.judge(probe).Verdict != policy.VerdictNotOurs), nil
	}
	if v := e.judge(a).Verdict; v == policy.VerdictDenylisted || v == policy.VerdictNotOurs && !e.query.All {
		return false, nil
	}
	known, err := e.known(a)
	return !known, err
}

// always lists the local parts that are accepted in all our domains.
func (e *exporter) always() error {
	for _, domain := range e.judged() {
		for _, local := range e.config.AlwaysAccept {
			a, err := address.Parse(local + "@" + domain)
			if err != nil || slices.Contains(e.config.Accept, a.String()) ||
				slices.ContainsFunc(e.files, func(t *tables.Table) bool { return t.Has(a.String()) }) {
				continue
			}
			if known, err := e.known(a); err != nil {
				return err
			} else if known {
				continue
			}
			if err := e.add(control.Recipient{Address: a.String(), Source: control.SourceAlways}); err != nil {
				return err
			}
		}
	}
	return nil
}

// judged are the domains of the configuration that are not passed, and the sub-domains
// of theirs that have an address.
func (e *exporter) judged() []string {
	all := map[string]bool{}
	for domain, mode := range e.config.Domains {
		all[domain] = mode != config.Pass && !strings.HasPrefix(domain, ".")
	}
	for domain := range e.store.Totals().Domains {
		if _, named := all[domain]; named {
			continue
		}
		probe, err := address.Parse("probe@" + domain)
		all[domain] = err == nil && e.judge(probe).Mode != policy.ModePass
	}
	maps.DeleteFunc(all, func(_ string, judged bool) bool { return !judged })
	return slices.Sorted(maps.Keys(all))
}

// passed lists the domains in which nobody is refused.
func (e *exporter) passed() error {
	for _, domain := range slices.Sorted(maps.Keys(e.config.Domains)) {
		if e.config.Domains[domain] != config.Pass || strings.HasPrefix(domain, ".") || slices.Contains(e.config.Accept, "@"+domain) {
			continue
		}
		if err := e.add(control.Recipient{Address: "@" + domain, Source: control.SourcePass}); err != nil {
			return err
		}
	}
	return nil
}
