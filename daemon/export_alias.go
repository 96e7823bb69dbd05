package daemon

import (
	"slices"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
)

// addAliased lists the recipients of domain aliases: the index and the lists at their targets. If a
// target is not judged, or a list has all of it, it lists the whole alias.
func (e *exporter) addAliased() error {
	byTarget := map[string][]string{}
	for _, alias := range e.aliases() {
		targets := e.policy.AliasTargets(alias)
		for _, target := range targets {
			if !slices.Contains(byTarget[target.Domain], alias) {
				byTarget[target.Domain] = append(byTarget[target.Domain], alias)
			}
		}
		if source := e.wholeBy(targets); source != "" {
			if err := e.addWhole(alias, source); err != nil {
				return err
			}
		}
	}
	if len(byTarget) == 0 {
		return nil
	}
	if err := e.addIndexedAs(byTarget); err != nil {
		return err
	}
	return e.addListedAs(byTarget)
}

// wholeBy returns the source by which all recipients of an alias with these targets are accepted,
// or "".
func (e *exporter) wholeBy(targets []policy.AliasTarget) string {
	for _, target := range targets {
		key := "@" + target.Domain
		switch {
		case target.Foreign, slices.ContainsFunc(e.files, func(t *tables.Table) bool { return t.Has(key) }):
			return control.SourceFile
		case slices.Contains(e.config.Accept, key):
			return control.SourceAccept
		}
	}
	return ""
}

// addIndexedAs lists the addresses of the index as recipients of the aliases of their domains.
func (e *exporter) addIndexedAs(byTarget map[string][]string) error {
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

// addListedAs lists the addresses of accept and accept_files as recipients of the aliases of their
// domains.
func (e *exporter) addListedAs(byTarget map[string][]string) error {
	listed := func(key string, file int) error {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		a, err := address.Parse(key)
		if err != nil {
			return nil // a whole domain
		}
		for _, alias := range byTarget[a.Domain()] {
			if err := e.listedAs(a, alias, file); err != nil {
				return err
			}
		}
		return nil
	}
	for _, key := range e.config.Accept {
		if err := listed(key, inAccept); err != nil {
			return err
		}
	}
	for i, table := range e.files {
		for key := range table.All() {
			if err := listed(key, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// inAccept stands for accept, where other numbers are those of accept files.
const inAccept = -1

// listedAs lists an address of a list as a recipient of an alias, unless the list of recipients has
// that one for another reason.
func (e *exporter) listedAs(a address.Address, alias string, file int) error {
	as := a.In(alias)
	if as.IsZero() || e.listedItself(as) {
		return nil
	}
	if owner, err := e.firstOwner(as); err != nil || !owner.IsZero() {
		return err // addIndexedAs has it
	}
	if first, in := e.firstListed(as); first != a || in != file {
		return nil
	}
	switch d := e.judge(as); {
	case d.Verdict == policy.VerdictError:
		return d.Err
	case !d.Reply.IsContinue() || d.WouldRefuse:
		return nil
	}
	return e.add(control.Recipient{Address: as.String(), Source: control.SourceAlias})
}

// firstListed returns the first form of an address at a target of its domain that a list has, and
// the first list that has it.
func (e *exporter) firstListed(as address.Address) (form address.Address, in int) {
	for _, target := range e.policy.AliasTargets(as.Domain()) {
		form := as.In(target.Domain)
		if slices.Contains(e.config.Accept, form.String()) {
			return form, inAccept
		}
		for i, table := range e.files {
			if table.Has(form.String()) {
				return form, i
			}
		}
	}
	return address.Address{}, inAccept
}

// listedItself reports whether the configuration or a file names an address of an alias, or accepts
// its local part everywhere.
func (e *exporter) listedItself(as address.Address) bool {
	return slices.Contains(e.config.AlwaysAccept, as.Local()) || slices.Contains(e.config.Accept, as.String()) ||
		slices.ContainsFunc(e.files, func(t *tables.Table) bool { return t.Has(as.String()) })
}

// aliases returns the judged domains that the configuration or a file makes an alias.
func (e *exporter) aliases() []string {
	return slices.DeleteFunc(allAliases(e.config, e.files), func(alias string) bool {
		return e.config.ModeOf(alias) == config.Pass
	})
}

// aliasedAs lists an address of the index as a recipient of an alias, unless the list has that
// recipient for another reason.
func (e *exporter) aliasedAs(a address.Address, alias string, restricted bool) error {
	as := a.In(alias)
	if as.IsZero() || e.listedItself(as) {
		return nil
	}
	if first, err := e.firstOwner(as); err != nil || first != a {
		return err
	}
	d := e.judge(as)
	r := control.Recipient{Address: as.String(), Source: control.SourceAlias}
	switch {
	case d.Verdict == policy.VerdictError && !restricted:
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
