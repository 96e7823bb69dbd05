package policy

import (
	"strings"
	"time"
	"unicode/utf8"

	"rcpt-milter/address"
)

// recipient is the mailbox of a query, and what the decision found out about it.
type recipient struct {
	text   string             // for replies; not escaped
	form   [2]address.Address // the whole address, zero: not readable; without its extension, zero: has none
	domain string
	mode   Mode

	unconfirmed bool // no directory is searched for it yet
	aliased     bool // its domain is an alias, whose addresses are those of its targets

	match     address.Address // the form that was found
	entry     string          // the configuration entry that matched
	shared    bool            // entry matches any number of addresses
	removed   time.Time       // when match lost its last owner
	asked     bool            // the index was asked for its freshness, because the recipient may be rejected
	freshness Freshness       // zero unless asked
	empty     bool            // the domain is enforced, and neither the index nor a list had an address of it
}

// recipient parses the address of a query: the MTA's reading of it if there is one,
// otherwise the argument of the command.
func (p *Policy) recipient(q Query) recipient {
	r := recipient{text: q.Recipient}
	var err error
	if q.Recipient != "" {
		r.form[0], err = address.Parse(q.Recipient)
		if !isASCII(q.Argument) { // the MTA may have folded its domain into another
			asked, _ := address.ParsePath(q.Argument)
			r.form[0] = r.form[0].WithDomainOf(asked)
		}
	} else {
		r.text = q.Argument
		if r.form[0], err = address.ParsePath(q.Argument); err == nil {
			r.text = r.form[0].String() // without route, display name and the like
		}
	}
	if r.domain = r.form[0].Domain(); err != nil {
		r.domain = address.DomainOf(r.text)
	}
	if p.delimiters != "" {
		r.form[1], _ = r.form[0].WithoutExtension(p.delimiters)
	}
	r.mode = p.mode(r.domain)
	return r
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf })
}

// readable reports whether the recipient could be parsed as an address.
func (r *recipient) readable() bool { return !r.form[0].IsZero() }

// forms returns the addresses to look up, the whole one first. The first that matches
// counts, with its restriction.
func (r *recipient) forms() []address.Address {
	for n, form := range r.form {
		if form.IsZero() {
			return r.form[:n]
		}
	}
	return r.form[:]
}

// found completes the reason for accepting a recipient. An internal-only recipient was
// accepted because of the client's network.
func (r *recipient) found(reason string) string {
	if r.entry != "" {
		return reason + ", and internal-only; the client is in inside.networks"
	}
	return reason
}

// isPostmaster reports whether text is postmaster in any case, with or without brackets
// and quotes.
func isPostmaster(text string) bool {
	return strings.EqualFold(strings.Trim(text, "<>\" \t"), "postmaster")
}

// answer returns the decision of a row.
func (r *recipient) answer(row int, v Verdict, reply Reply, reason string) Decision {
	return Decision{
		Verdict: v, Reply: reply, Row: row, Reason: reason,
		Address: r.form[0], Domain: r.domain, Mode: r.mode, Match: r.match, Entry: r.entry, Shared: r.shared,
		Removed: r.removed, Asked: r.asked, Freshness: r.freshness,
	}
}

// failed returns the decision after an internal error.
func (r *recipient) failed(err error) Decision {
	d := r.answer(0, VerdictError, CannotTell(r.text), "an internal error")
	d.Err = err
	return d
}
