package daemon

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

var _ control.TenantBackend = backend{}

// tenantPolicy returns the policy in effect, without the parts that tenants would share with others: the search
// budget of a directory and the harvest limit.
func (b backend) tenantPolicy() (*policy.Policy, error) {
	return newPolicy(b.config.Load(), b.index(), b.files, queryChecks{}, b.now)
}

// TenantStatus returns the state of the domains in a scope.
func (b backend) TenantStatus(ctx context.Context, scope control.Scope) (control.TenantStatus, error) {
	host, _ := os.Hostname() // empty if it has none
	s := control.TenantStatus{Host: host, Started: control.Time{Time: b.started}, State: control.Fresh,
		Domains: []control.TenantDomain{}}
	p, err := b.tenantPolicy()
	if err != nil {
		return s, err
	}
	indexed, counts := b.store.Totals().Domains, b.domains.Counts()
	for _, domain := range b.tenantDomains(scope, indexed) {
		d := b.tenantDomain(ctx, p, domain)
		d.Addresses = indexed[domain]
		d.Decisions = counts[domain] // of its own entry only: tenants may share the entry of a parent
		s.Domains = append(s.Domains, d)
		if d.Mode != "" {
			s.State = control.Worst(s.State, d.State)
		}
	}
	return s, nil
}

// tenantDomains returns the domains in a scope, sorted: those that it names, and those in the configuration and
// in the index that it covers.
func (b backend) tenantDomains(scope control.Scope, indexed map[string]int64) []string {
	all := maps.Clone(map[string]bool(scope))
	for domain := range b.config.Load().Domains {
		if scope.Covers(domain) {
			all[domain] = true
		}
	}
	for domain := range indexed {
		if scope.Covers(domain) {
			all[domain] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// noSuchUser is a local part that no recipient has.
const noSuchUser = "rcpt-milter-no-such-user"

func (b backend) tenantDomain(ctx context.Context, p *policy.Policy, domain string) control.TenantDomain {
	c := b.config.Load()
	directories := b.index()
	fresh := directories.Freshness(domain)
	directories.ages = fileAges{} // the modification of a file is no pass
	d := control.TenantDomain{Domain: domain, State: stateOf(fresh.State), Unknown: control.UnknownAccepted,
		LastSuccess: control.Time{Time: directories.Freshness(domain).Since}}
	if c.HasEntry(domain) {
		d.Mode = string(c.ModeOf(domain))
	}
	if strings.HasPrefix(domain, ".") { // no particular subdomain can be looked up; use the state only
		if c.Judges(domain) {
			d.Unknown = control.UnknownIn(d.State, c.WhenStale, c.WhenNotReady)
		}
		d.WouldRefuse = c.ModeOf(domain) == policy.ModeReport && d.Unknown != control.UnknownAccepted
		return d
	}
	unknown := p.Decide(ctx, policy.Query{Argument: noSuchUser + "@" + domain, From: lookupSender})
	switch unknown.Enforced().Outcome() {
	case policy.Refused:
		d.Unknown = control.UnknownRejected
	case policy.Deferred:
		d.Unknown = control.UnknownDeferred
	}
	d.WouldRefuse = unknown.WouldRefuse
	d.Empty = unknown.Verdict == policy.VerdictNotReady && unknown.Freshness.State.Ready()
	return d
}

// TenantLookup evaluates an address in a scope.
func (b backend) TenantLookup(ctx context.Context, scope control.Scope, text string) (control.TenantLookup, error) {
	if !scope.CoversText(text) {
		return control.TenantLookup{}, control.ErrForeignDomain
	}
	p, err := b.tenantPolicy()
	if err != nil {
		return control.TenantLookup{}, err
	}
	d := p.Decide(ctx, policy.Query{Argument: text, From: lookupSender})
	if !scope.Covers(d.Domain) { // cannot happen: the policy parses the text in the same way
		return control.TenantLookup{}, control.ErrForeignDomain
	}
	t := control.TenantLookup{
		Address: text, Canonical: d.Address.String(), Domain: d.Domain, Mode: string(d.Mode),
		Outcome: d.Reply.Outcome(), Reply: d.Reply.String(), Verdict: string(d.Verdict), WouldRefuse: d.WouldRefuse,
		Rule: d.Row, Owners: []control.TenantOwner{}, History: []control.TenantChange{},
	}
	if d.WouldRefuse {
		t.WouldReply = d.WouldReply.String()
	}
	if d.Err != nil {
		b.log.Warn("lookup of a tenant failed", "to", text, "error", d.Err)
	}
	// The target of an alias is in another domain, which may belong to another tenant.
	if a := subject(d); !a.IsZero() && scope.Covers(a.Domain()) {
		if detail, err := b.store.Describe(a); err == nil { // an error is already part of the decision
			addTenantDetail(&t, detail.Owners, detail.History, detail.Removed)
		}
	}
	return t, nil
}

// addTenantDetail adds what the store has about an address. It omits the names of objects, directories and
// controllers. It also omits the numbers of passes, which count the passes of all directories.
func addTenantDetail(t *control.TenantLookup, owners []store.Owner, history []store.Event, removed time.Time) {
	for _, o := range owners {
		t.Owners = append(t.Owners, control.TenantOwner{Class: o.Class, InternalOnly: o.InternalOnly, Gone: o.Gone,
			BecomesInternalOnly: o.BecomesInternalOnly, Learned: control.Time{Time: o.Learned}})
	}
	for _, e := range history {
		row := journalRowOf(e)
		t.History = append(t.History, control.TenantChange{Time: row.Time, Change: row.Change,
			InternalOnly: row.InternalOnly})
	}
	t.Removed = control.Time{Time: removed}
}

// TenantReport sums up the rejected recipients in a scope. The limit applies to the rows of the scope.
func (b backend) TenantReport(ctx context.Context, scope control.Scope, q control.ReportQuery) (control.TenantReport,
	error) {
	if err := b.refusals.Flush(); err != nil {
		b.log.Warn("report of a tenant is incomplete", "error", err)
	}
	return reporter{b.store, b.targets}.tenantReport(ctx, scope, q, b.now())
}

func (r reporter) tenantReport(ctx context.Context, scope control.Scope, q control.ReportQuery, now time.Time) (
	control.TenantReport, error) {
	report := control.TenantReport{To: control.Time{Time: now}, Domains: []control.RefusedName{},
		Addresses: []control.RefusedAddress{}}
	sum, err := r.store.RefusalsSince(q.Since.Time)
	if err != nil {
		return report, err
	}
	if !q.Since.IsZero() {
		report.From = control.Time{Time: sum.From}
	}
	for _, row := range sum.Domains.Rows() {
		if scope.Covers(row.Text) {
			name := nameOf(row)
			report.Domains = append(report.Domains, name)
			report.Refused += name.Refused
			report.WouldRefuse += name.WouldRefuse
		}
	}
	report.Domains = limited(report.Domains, q.Limit)
	for _, row := range sum.Addresses.Rows() {
		text := strings.TrimPrefix(row.Text, hashPrefix)
		if !scope.CoversText(text) {
			continue
		}
		if q.Limit > 0 && len(report.Addresses) == q.Limit || ctx.Err() != nil {
			break
		}
		a := control.RefusedAddress{RefusedName: nameOf(row), Network: row.Network, Verdict: row.Verdict}
		if a.Now, err = r.nowOf(row.Text); err != nil {
			return report, err
		}
		a.Name = text
		report.Addresses = append(report.Addresses, a)
	}
	return report, nil
}
