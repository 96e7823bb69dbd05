package milter

import (
	"strings"
	"time"
	"unicode/utf8"

	"rcpt-milter/address"
)

// recipient is whom a query asks about, read once, and what was learned on the way
// down the table.
type recipient struct {
	text   string             // for replies; not escaped yet
	form   [2]address.Address // the whole address, zero: cannot be read; without its extension, zero: has none
	domain string
	mode   Mode

	unconfirmed bool // no directory is asked about it yet
	aliased     bool // its domain is an alias, whose addresses are those of its targets

	match     address.Address // the form that the answer is about
	entry     string          // what of the configuration matched
	shared    bool            // it stands for any number of addresses
	removed   time.Time
	asked     bool // freshness was
	freshness Freshness
	empty     bool // the domain is enforced, the index had no address of it, and no list names one
}

// recipient reads the address of a query: the MTA's own reading of it where there is
// one, and the argument of the command otherwise.
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

// readable reports whether there is an address at all.
func (r *recipient) readable() bool { return !r.form[0].IsZero() }

// forms are those in which the recipient may stand somewhere, the whole address first.
// The first that matches counts, with the restriction that it carries.
func (r *recipient) forms() []address.Address {
	for n, form := range r.form {
		if form.IsZero() {
			return r.form[:n]
		}
	}
	return r.form[:]
}

// found is the reason for accepting a recipient that was found: for one that is internal-only
// with the inside network that the client is in.
func (r *recipient) found(reason string) string {
	if r.entry != "" {
		return reason + ", and internal-only; the client is in inside.networks"
	}
	return reason
}

// isPostmaster reports whether text is postmaster without a domain, in any case,
// with or without brackets and quotes.
func isPostmaster(text string) bool {
	return strings.EqualFold(strings.Trim(text, "<>\" \t"), "postmaster")
}

// answer makes the decision of one row.
func (r *recipient) answer(row int, v Verdict, reply Reply, reason string) Decision {
	return Decision{
		Verdict: v, Reply: reply, Row: row, Reason: reason,
		Address: r.form[0], Domain: r.domain, Mode: r.mode, Match: r.match, Entry: r.entry, Shared: r.shared,
		Removed: r.removed, Asked: r.asked, Freshness: r.freshness,
	}
}

// failed is the answer where nothing can be told.
func (r *recipient) failed(err error) Decision {
	d := r.answer(0, VerdictError, cannotTell(r.text), "an internal error")
	d.Err = err
	return d
}
