package daemon

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

// exportBatch is how many recipients one event holds.
const exportBatch = 500

func (b backend) Export(ctx context.Context, q control.ExportQuery, tell func(control.ExportEvent) error) error {
	c := b.config.Load()
	e, err := b.newExporter(c, q)
	if err != nil {
		return err
	}
	e.tell = tell
	return e.run(ctx, b.now())
}

// newExporter returns an exporter of the index as it is now. The caller sets tell.
func (d *daemon) newExporter(c *config.Config, q control.ExportQuery) (exporter, error) {
	policy, err := newPolicy(c, d.index(), d.files, queryChecks{}, time.Now)
	if err != nil {
		return exporter{}, err
	}
	e := exporter{version: d.version, config: c, store: d.store, policy: policy, query: q}
	withSameTables(d.files, func(files []*tables.Table) {
		e.files, e.open, e.maybeEmpty = files, nil, nil
		if q.Open {
			e.findOpen(domainsWithoutAddress(c, d.files, d.index().HasDomain, d.store.HasDomainBelow),
				func(domain string) bool { return hasBeenRead(d.index(), domain) }, d.agesOf(c))
		}
	})
	for _, d := range d.syncs.Directories() {
		e.directories = append(e.directories, control.ExportDirectory{Name: d.Name, State: d.State,
			LastSuccess: d.LastSuccess})
	}
	return e, nil
}

// withSameTables calls find with the tables of the accept files, again if a file was read meanwhile. Otherwise find
// could get a table that lacks entries, and a state of its file that is no longer in doubt.
func withSameTables(files *tables.Files, find func([]*tables.Table)) {
	for {
		before := files.Snapshot()
		find(before)
		if slices.Equal(before, files.Snapshot()) {
			return
		}
	}
}

// exporter lists the recipients of one configuration. The policy decides as for an outside
// sender, so the list accepts what the daemon accepts.
type exporter struct {
	version     string
	config      *config.Config
	store       *store.Store
	files       []*tables.Table // of accept_files
	policy      *policy.Policy
	directories []control.ExportDirectory
	query       control.ExportQuery
	open        []openDomain // only with query.Open
	maybeEmpty  []string     // enforced domains without a known address that may have some; only with query.Open
	tell        func(control.ExportEvent) error

	ctx   context.Context
	batch []control.Recipient
}

func (e *exporter) run(ctx context.Context, now time.Time) error {
	e.ctx = ctx
	head := e.head(now)
	if head.State == control.NotReady && !e.query.Force {
		return fmt.Errorf("%s not been read in full yet, and its recipients would be missing; wait for it, or force it",
			e.notReady())
	}
	if err := e.tell(control.ExportEvent{Head: &head}); err != nil {
		return err
	}
	for _, part := range []func() error{e.addIndexed, e.addAliased, e.addAccepted, e.addFiled, e.addAlways,
		e.addPassed, e.addOpen, e.flush} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) head(now time.Time) control.ExportHead {
	totals := e.store.Totals()
	head := control.ExportHead{Version: e.version, Time: control.Time{Time: now}, State: control.Fresh,
		Addresses: totals.Addresses,
		Digest:    totals.Digest, Domains: map[string]string{}, Directories: e.directories, Unlisted: e.unlisted()}
	for domain, mode := range e.config.Domains {
		head.Domains[domain] = string(mode)
	}
	for _, d := range e.directories {
		head.State = control.Worst(head.State, d.State)
	}
	return head
}

// notReady names the directories that are not ready, as the beginning of a sentence.
func (e *exporter) notReady() string {
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

// judge returns the decision about a canonical address.
func (e *exporter) judge(a address.Address) policy.Decision {
	return e.policy.Decide(e.ctx, policy.Query{Recipient: a.String()})
}

// addIndexed lists the addresses of the index, unless the configuration rejects them.
func (e *exporter) addIndexed() error {
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
			if !restricted {
				return d.Err
			}
			r.Restricted = true // and perhaps open by now
		default: // only internal-only addresses get to the rows below 6
			r.Restricted = restricted
		}
		return e.add(r)
	})
}

// known reports whether the index has an address. Such an address is in the list already.
func (e *exporter) known(a address.Address) (bool, error) {
	p, err := e.store.Lookup(a)
	return p.Known, err
}

// addAccepted lists the entries of accept.
func (e *exporter) addAccepted() error {
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

// addFiled lists the entries of accept_files.
func (e *exporter) addFiled() error {
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

// listedBy reports whether a key belongs in the list, and the file with this number is its only
// reason.
func (e *exporter) listedBy(file int, key string) (bool, error) {
	if slices.Contains(e.config.Accept, key) || slices.ContainsFunc(e.files[:file],
		func(t *tables.Table) bool { return t.Has(key) }) {
		return false, nil
	}
	a, err := address.Parse(key)
	if err != nil { // a whole domain
		probe, err := address.Parse("probe" + key)
		return err == nil && (e.query.All || e.judge(probe).Verdict != policy.VerdictNotOurs), nil
	}
	if v := e.judge(a).Verdict; v == policy.VerdictDenylisted || v == policy.VerdictNotOurs && !e.query.All {
		return false, nil
	}
	known, err := e.known(a)
	return !known, err
}

// addAlways lists the addresses of always_accept in all judged domains.
func (e *exporter) addAlways() error {
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

// judged returns the judged domains of the configuration, and their subdomains that the index, a
// list or an alias names.
func (e *exporter) judged() []string {
	all := map[string]bool{}
	for domain, mode := range e.config.Domains {
		all[domain] = mode != config.Pass && !strings.HasPrefix(domain, ".")
	}
	named := func(domain string) bool {
		all[domain] = e.config.ModeOf(domain) != config.Pass
		return true
	}
	for domain := range e.store.Totals().Domains {
		named(domain)
	}
	for _, entry := range e.config.Accept {
		named(entry[strings.LastIndexByte(entry, '@')+1:])
	}
	for _, table := range e.files {
		table.DomainsNamed(named)
	}
	for _, alias := range e.aliases() {
		named(alias)
	}
	maps.DeleteFunc(all, func(_ string, judged bool) bool { return !judged })
	return slices.Sorted(maps.Keys(all))
}

// addPassed lists the domains in mode pass.
func (e *exporter) addPassed() error {
	for _, domain := range slices.Sorted(maps.Keys(e.config.Domains)) {
		if e.config.Domains[domain] != config.Pass || strings.HasPrefix(domain, ".") || slices.Contains(e.config.Accept,
			"@"+domain) {
			continue
		}
		if err := e.add(control.Recipient{Address: "@" + domain, Source: control.SourcePass}); err != nil {
			return err
		}
	}
	return nil
}
