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

// tenantPolicy returns the policy in effect, without what tenants would share with others:
// searches of a directory have one budget, and clients one limit.
func (b backend) tenantPolicy() (*policy.Policy, error) {
	return newPolicy(b.config.Load(), b.index(), b.files, queryChecks{}, b.now)
}

// TenantStatus returns the state of the domains of a scope.
func (b backend) TenantStatus(ctx context.Context, scope control.Scope) (control.TenantStatus, error) {
	host, _ := os.Hostname() // empty if it has none
	s := control.TenantStatus{Host: host, State: control.Fresh, Domains: []control.TenantDomain{}}
	p, err := b.tenantPolicy()
	if err != nil {
		return s, err
	}
	indexed := b.store.Totals().Domains
	for _, domain := range b.tenantDomains(scope, indexed) {
		d := b.tenantDomain(ctx, p, domain)
		d.Addresses = indexed[domain]
		s.Domains = append(s.Domains, d)
		if d.Mode != "" {
			s.State = control.Worst(s.State, d.State)
		}
	}
	return s, nil
}

// tenantDomains returns the domains of a scope by name: those that it names, and those of the
// configuration and of the index that it covers.
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

// noSuchUser is the local part of a recipient that no directory has.
const noSuchUser = "rcpt-milter-no-such-user"

func (b backend) tenantDomain(ctx context.Context, p *policy.Policy, domain string) control.TenantDomain {
	c := b.config.Load()
	fresh := b.index().Freshness(domain)
	d := control.TenantDomain{Domain: domain, State: stateOf(fresh.State), LastSuccess: control.Time{Time: fresh.Since},
		Unknown: control.UnknownAccepted}
	if c.HasEntry(domain) {
		d.Mode = string(c.ModeOf(domain))
	}
	if strings.HasPrefix(domain, ".") { // which subdomain matters, so the state alone must do
		if c.Judges(domain) {
			d.Unknown = control.UnknownIn(d.State, c.WhenStale, c.WhenNotReady)
		}
		d.WouldRefuse = c.ModeOf(domain) == policy.ModeReport && d.Unknown != control.UnknownAccepted
		return d
	}
	unknown := p.Decide(ctx, policy.Query{Argument: noSuchUser + "@" + domain, From: notNull})
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

// TenantLookup makes a decision about an address of a scope.
func (b backend) TenantLookup(ctx context.Context, scope control.Scope, text string) (control.TenantLookup, error) {
	if !scope.CoversText(text) {
		return control.TenantLookup{}, control.ErrForeignDomain
	}
	p, err := b.tenantPolicy()
	if err != nil {
		return control.TenantLookup{}, err
	}
	d := p.Decide(ctx, policy.Query{Argument: text, From: notNull})
	if !scope.Covers(d.Domain) { // not reached: the policy reads the text in the same way
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
	// The address that an alias leads to belongs to another domain, perhaps of another tenant.
	if a := subject(d); !a.IsZero() && scope.Covers(a.Domain()) {
		if detail, err := b.store.Describe(a); err == nil { // otherwise the decision has the error
			addTenantDetail(&t, detail.Owners, detail.History, detail.Removed)
		}
	}
	return t, nil
}

// addTenantDetail adds what the store has about an address, without the names of objects, directories and
// controllers, and without the numbers of passes, which count those of all directories.
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

// TenantReport sums up the rejected recipients of a scope. The limit counts rows of the scope.
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
