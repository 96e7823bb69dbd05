package policy

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"rcpt-milter/address"
)

// recipient is the mailbox of a query, with the intermediate results of a decision.
type recipient struct {
	text   string             // as shown in replies; not escaped
	form   [4]address.Address // the whole address (zero if it cannot be parsed), then its other forms; see setForms
	forms  int                // number of forms; 0 if the address cannot be parsed
	plain  int                // number of forms that have the tag, if there is one
	prefix string             // prefix of the tag that the other forms lack; empty means none
	domain string
	mode   Mode

	unconfirmed bool // do not search the directories for it yet
	aliased     bool // its domain is an alias, whose addresses are those of its targets
	refused     bool // the recipient as written in the alias domain is in refuse
	baseRefused bool // refuse has a form without the tag, so these forms do not make it known

	match     address.Address // form that was found
	entry     string          // configuration entry that matched
	shared    bool            // entry matches any number of addresses
	removed   time.Time       // when match lost its last owner
	asked     bool            // the index was queried for its freshness, because the recipient may be rejected
	freshness Freshness       // zero unless asked
	empty     bool            // the domain is enforced, but neither the index nor a list has an address in it
	inFile    bool            // an accept file has it now, but did not when the lists were searched
}

// recipient parses the address of a query: the address that the MTA parsed if there is one, otherwise the
// argument of the command.
func (p *Policy) recipient(q Query) recipient {
	r := recipient{text: q.Recipient}
	var err error
	if q.Recipient != "" {
		r.form[0], err = address.Parse(q.Recipient)
		if !isASCII(q.Argument) { // the MTA may have folded the domain into another one
			asked, _ := address.ParsePath(q.Argument)
			r.form[0] = r.form[0].WithDomainOf(asked)
		}
	} else {
		r.text = q.Argument
		if r.form[0], err = address.ParsePath(q.Argument); err == nil {
			r.text = r.form[0].String() // without source route, display name and the like
		}
	}
	if r.domain = r.form[0].Domain(); err != nil {
		r.domain = address.DomainOf(r.text)
	}
	p.setForms(&r)
	r.mode = p.mode(r.domain)
	return r
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}

// readable reports whether the recipient could be parsed as an address.
func (r *recipient) readable() bool { return !r.form[0].IsZero() }

// setForms sets the other forms of a recipient: without its extension, and both forms without its tag.
func (p *Policy) setForms(r *recipient) {
	if !r.readable() {
		return
	}
	r.addForm(p, r.form[0])
	r.plain = r.forms
	for _, prefix := range p.stripPrefixes {
		if base, tagged := r.form[0].WithoutTag(prefix); tagged {
			r.prefix = prefix
			r.addForm(p, base)
			return
		}
	}
}

// addForm adds an address, with and without its extension.
func (r *recipient) addForm(p *Policy, a address.Address) {
	r.form[r.forms] = a
	r.forms++
	if p.delimiters == "" {
		return
	}
	if base, extended := a.WithoutExtension(p.delimiters); extended {
		r.form[r.forms] = base
		r.forms++
	}
}

// all returns the forms to look up, the whole address first and the forms without a tag last. The first form
// that matches counts, with its restriction.
func (r *recipient) all() []address.Address { return r.form[:r.forms] }

// counted returns the forms that may make the recipient known.
func (r *recipient) counted() []address.Address {
	if r.baseRefused {
		return r.form[:r.plain]
	}
	return r.all()
}

// stripped returns the prefix of the tag that the match lacks, or an empty string.
func (r *recipient) stripped() string {
	if r.match.IsZero() || !slices.Contains(r.form[r.plain:r.forms], r.match) {
		return ""
	}
	return r.prefix
}

// found completes the reason for accepting a recipient. If an internal-only recipient was accepted because of
// the client's network, it adds that.
func (r *recipient) found(reason string) string {
	if r.entry != "" {
		return reason + ", and internal-only; the client is in inside.networks"
	}
	return reason
}

// isPostmaster reports whether text is postmaster in any case, with or without brackets and quotes.
func isPostmaster(text string) bool {
	return strings.EqualFold(strings.Trim(text, "<>\" \t"), "postmaster")
}

// answer returns the decision of a row.
func (r *recipient) answer(row int, v Verdict, reply Reply, reason string) Decision {
	return Decision{
		Verdict: v, Reply: reply, Row: row, Reason: reason,
		Address: r.form[0], Domain: r.domain, Mode: r.mode, Match: r.match, Entry: r.entry, Shared: r.shared,
		Removed: r.removed, Asked: r.asked, Freshness: r.freshness, Stripped: r.stripped(),
	}
}

// failed returns the decision after an internal error.
func (r *recipient) failed(err error) Decision {
	d := r.answer(0, VerdictError, CannotTell(r.text), "an internal error")
	d.Err = err
	return d
}
