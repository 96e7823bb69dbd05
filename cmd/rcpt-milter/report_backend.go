package main

import (
	"context"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/store"
)

// Bounds on the work that near misses may be: for each address about a thousand others
// are looked up.
const (
	nearAddresses = 200
	nearKnown     = 3 // of one address
	nearFor       = 10 * time.Second
)

// Report adds up the hours, the one under way included.
func (b backend) Report(ctx context.Context, q control.ReportQuery) (control.Report, error) {
	missing := b.refusals.Keep()
	report, err := reportOf(ctx, b.store, q, b.now())
	if missing != nil {
		report.Incomplete = missing.Error()
	}
	return report, err
}

// reportOf makes a report of what the store has.
func reportOf(ctx context.Context, s *store.Store, q control.ReportQuery, now time.Time) (control.Report, error) {
	sum, err := s.RefusalsSince(q.Since.Time)
	if err != nil {
		return control.Report{}, err
	}
	report := control.Report{
		From: control.Time{Time: sum.From}, To: control.Time{Time: now}, Refused: sum.Total - sum.WouldRefuse, WouldRefuse: sum.WouldRefuse,
		Unlisted: sum.Unlisted, Verdicts: sum.Verdicts,
		Domains: names(sum.Domains, q.Limit), Networks: names(sum.Networks, q.Limit),
	}
	if q.Since.IsZero() {
		report.From = control.Time{}
	}
	if q.Brief {
		return report, nil
	}
	for _, row := range firstOf(sum.Addresses.Rows(), q.Limit) {
		a := control.RefusedAddress{RefusedName: nameOf(row), Network: row.Network, Verdict: row.Verdict}
		if a.Now, err = nowOf(s, row.Text); err != nil {
			return report, err
		}
		a.Name = strings.TrimPrefix(a.Name, hashed) // so that it can be looked for in the log
		report.Addresses = append(report.Addresses, a)
	}
	return report, nearMisses(ctx, s, &report)
}

func names(t *store.Tally, limit int) []control.RefusedName {
	var all []control.RefusedName
	for _, row := range firstOf(t.Rows(), limit) {
		all = append(all, nameOf(row))
	}
	return all
}

func nameOf(row store.Row) control.RefusedName {
	return control.RefusedName{Name: row.Text, Refused: row.Total - row.WouldRefuse, WouldRefuse: row.WouldRefuse,
		First: control.Time{Time: row.First}, Last: control.Time{Time: row.Last}}
}

// firstOf gives at most so many; 0: all.
func firstOf[E any](all []E, limit int) []E {
	if limit > 0 && len(all) > limit {
		return all[:limit]
	}
	return all
}

// nowOf says what became of an address.
func nowOf(s *store.Store, text string) (string, error) {
	a, err := address.Parse(text)
	if err != nil || strings.HasPrefix(text, hashed) {
		return control.NowHidden, nil
	}
	p, err := s.Lookup(a)
	switch {
	case err != nil:
		return "", err
	case p.Known:
		return control.NowKnown, nil
	case !p.Removed.IsZero():
		return control.NowRemoved, nil
	}
	return control.NowUnknown, nil
}

// nearMisses looks for known addresses beside the most frequent of those that are not.
func nearMisses(ctx context.Context, s *store.Store, report *control.Report) error {
	ctx, cancel := context.WithTimeout(ctx, nearFor)
	defer cancel()
	for _, refused := range firstOf(report.Addresses, nearAddresses) {
		if ctx.Err() != nil {
			return nil // as far as it came
		}
		report.Searched++
		if refused.Now != control.NowUnknown && refused.Now != control.NowRemoved {
			continue
		}
		known, err := neighbours(s, refused.Name)
		if err != nil {
			return err
		}
		if len(known) > 0 {
			report.NearMisses = append(report.NearMisses, control.NearMiss{RefusedAddress: refused, Known: known})
		}
	}
	return nil
}

// neighbours are known addresses that are one slip of the finger away.
func neighbours(s *store.Store, text string) (known []string, err error) {
	a, err := address.Parse(text)
	if err != nil {
		return nil, nil
	}
	seen := map[address.Address]bool{}
	for other := range a.Neighbours() {
		p, err := s.Lookup(other)
		if err != nil {
			return nil, err
		}
		if p.Known && !seen[other] {
			seen[other] = true
			known = append(known, other.String())
		}
		if len(known) == nearKnown {
			break
		}
	}
	return known, nil
}
