package daemon

import (
	"context"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/store"
)

// Limits of the search for near misses, which looks up about a thousand addresses for each rejected one.
const (
	nearAddresses = 200
	nearKnown     = 3 // for each rejected address
	nearFor       = 10 * time.Second
)

// Report sums up the hourly records, including the current hour.
func (b backend) Report(ctx context.Context, q control.ReportQuery) (control.Report, error) {
	missing := b.refusals.Flush()
	report, err := reporter{b.store, b.targets}.report(ctx, q, b.now())
	if missing != nil {
		report.Incomplete = missing.Error()
	}
	return report, err
}

// targets returns an address in each domain that its domain is an alias of.
func (b backend) targets(a address.Address) (all []address.Address) {
	for _, target := range b.server.Policy().AliasTargets(a.Domain()) {
		all = append(all, a.In(target.Domain))
	}
	return all
}

// reporter creates reports from a store.
type reporter struct {
	// targets returns an address in the target domains of its alias. Nil means that there are no aliases.
	store   *store.Store
	targets func(address.Address) []address.Address
}

// reportOf creates a report for a configuration without aliases.
func reportOf(ctx context.Context, s *store.Store, q control.ReportQuery, now time.Time) (control.Report, error) {
	return reporter{store: s}.report(ctx, q, now)
}

// forms returns the addresses under which the index may have a recipient.
func (r reporter) forms(a address.Address) []address.Address {
	all := []address.Address{a}
	if r.targets != nil {
		all = append(all, r.targets(a)...)
	}
	return all
}

func (r reporter) report(ctx context.Context, q control.ReportQuery, now time.Time) (control.Report, error) {
	sum, err := r.store.RefusalsSince(q.Since.Time)
	if err != nil {
		return control.Report{}, err
	}
	report := control.Report{
		From: control.Time{Time: sum.From}, To: control.Time{Time: now}, Refused: sum.Total - sum.WouldRefuse,
		WouldRefuse: sum.WouldRefuse,
		WouldLimit:  sum.WouldLimit(),
		Unlisted:    sum.Unlisted, Verdicts: sum.ByVerdict(),
		Domains: names(sum.Domains, q.Limit), Networks: names(sum.Networks, q.Limit),
	}
	if q.Since.IsZero() {
		report.From = control.Time{}
	}
	if q.Brief {
		return report, nil
	}
	for _, row := range limited(sum.Addresses.Rows(), q.Limit) {
		a := control.RefusedAddress{RefusedName: nameOf(row), Network: row.Network, Verdict: row.Verdict}
		if a.Now, err = r.nowOf(row.Text); err != nil {
			return report, err
		}
		a.Name = strings.TrimPrefix(a.Name, hashPrefix) // as shown in the log
		report.Addresses = append(report.Addresses, a)
	}
	return report, r.nearMisses(ctx, &report)
}

func names(t *store.Tally, limit int) []control.RefusedName {
	var all []control.RefusedName
	for _, row := range limited(t.Rows(), limit) {
		all = append(all, nameOf(row))
	}
	return all
}

func nameOf(row store.Row) control.RefusedName {
	return control.RefusedName{Name: row.Text, Refused: row.Total - row.WouldRefuse, WouldRefuse: row.WouldRefuse,
		First: control.Time{Time: row.First}, Last: control.Time{Time: row.Last}}
}

// limited returns at most limit elements. Zero means no limit.
func limited[E any](all []E, limit int) []E {
	if limit > 0 && len(all) > limit {
		return all[:limit]
	}
	return all
}

// nowOf returns whether a rejected address is known now.
func (r reporter) nowOf(text string) (string, error) {
	a, err := address.Parse(text)
	if err != nil || strings.HasPrefix(text, hashPrefix) {
		return control.NowHidden, nil
	}
	became := control.NowUnknown
	for _, form := range r.forms(a) {
		p, err := r.store.Lookup(form)
		switch {
		case err != nil:
			return "", err
		case p.Known:
			return control.NowKnown, nil
		case !p.Removed.IsZero():
			became = control.NowRemoved
		}
	}
	return became, nil
}

// nearMisses adds known addresses that resemble the most frequently rejected ones.
func (r reporter) nearMisses(ctx context.Context, report *control.Report) error {
	ctx, cancel := context.WithTimeout(ctx, nearFor)
	defer cancel()
	for _, refused := range limited(report.Addresses, nearAddresses) {
		if ctx.Err() != nil {
			return nil // out of time; report what was found
		}
		report.Searched++
		if refused.Now != control.NowUnknown && refused.Now != control.NowRemoved {
			continue
		}
		known, err := r.neighbours(refused.Name)
		if err != nil {
			return err
		}
		if len(known) > 0 {
			report.NearMisses = append(report.NearMisses, control.NearMiss{RefusedAddress: refused, Known: known})
		}
	}
	return nil
}

// neighbours returns known addresses that differ from a text by one typing error, including those at the
// targets of domain aliases.
func (r reporter) neighbours(text string) (known []string, err error) {
	a, err := address.Parse(text)
	if err != nil {
		return nil, nil
	}
	seen := map[address.Address]bool{}
	for _, form := range r.forms(a) {
		for other := range form.Neighbours() {
			p, err := r.store.Lookup(other)
			if err != nil {
				return nil, err
			}
			if p.Known && !seen[other] {
				seen[other] = true
				known = append(known, other.String())
			}
			if len(known) == nearKnown {
				return known, nil
			}
		}
	}
	return known, nil
}
