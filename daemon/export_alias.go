package daemon

import (
	"maps"
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// addAliased lists the recipients of domain aliases: the index at their targets. If a target is
// not judged, it lists the whole alias.
func (e *exporter) addAliased() error {
	byTarget := map[string][]string{}
	for _, alias := range e.aliases() {
		for _, target := range e.policy.AliasTargets(alias) {
			if !target.Foreign {
				byTarget[target.Domain] = append(byTarget[target.Domain], alias)
				continue
			}
			if err := e.add(control.Recipient{Address: "@" + alias, Source: control.SourceFile}); err != nil {
				return err
			}
			break
		}
	}
	if len(byTarget) == 0 {
		return nil
	}
	return e.store.Addresses(func(a address.Address, restricted bool) error {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		for _, alias := range byTarget[a.Domain()] {
			if err := e.aliasedAs(a, alias, restricted); err != nil {
				return err
			}
		}
		return nil
	})
}

// aliases returns the judged domains that the configuration or a file makes an alias.
func (e *exporter) aliases() []string {
	all := map[string]bool{}
	for alias := range e.config.DomainAliases {
		all[alias] = true
	}
	for _, table := range e.files {
		for alias := range table.AllAliases() {
			all[alias] = true
		}
	}
	maps.DeleteFunc(all, func(alias string, _ bool) bool { return e.config.ModeOf(alias) == config.Pass })
	return slices.Sorted(maps.Keys(all))
}

// aliasedAs lists an address of the index as a recipient of an alias, unless the list has that
// recipient for another reason.
func (e *exporter) aliasedAs(a address.Address, alias string, restricted bool) error {
	as := a.In(alias)
	if as.IsZero() || slices.Contains(e.config.AlwaysAccept, as.Local()) ||
		slices.Contains(e.config.Accept, as.String()) ||
		slices.ContainsFunc(e.files, func(t *tables.Table) bool { return t.Has(as.String()) }) {
		return nil
	}
	if first, err := e.firstOwner(as); err != nil || first != a {
		return err
	}
	d := e.judge(as)
	r := control.Recipient{Address: as.String(), Source: control.SourceAlias}
	switch {
	case d.Verdict == policy.VerdictError:
		return d.Err
	case d.Verdict == policy.VerdictDenylisted, d.Verdict == policy.VerdictUnknown:
		return nil
	case d.Verdict == policy.VerdictRestricted:
		r.Restricted = true
	case !d.Reply.IsContinue() || d.WouldRefuse:
		r.Restricted = restricted
	}
	return e.add(r)
}

// firstOwner returns the first form of an address that the index has: the address itself, or
// the one at a target of its domain.
func (e *exporter) firstOwner(as address.Address) (address.Address, error) {
	forms := []address.Address{as}
	for _, target := range e.policy.AliasTargets(as.Domain()) {
		forms = append(forms, as.In(target.Domain))
	}
	for _, form := range forms {
		if known, err := e.known(form); err != nil || known {
			return form, err
		}
	}
	return address.Address{}, nil
}
