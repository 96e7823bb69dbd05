package milter

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"rcpt-milter/address"
)

// Verdict says what the policy found out about one RCPT. It is what logs, metrics
// and commands show.
type Verdict string

// The verdicts, in the order of the rows that give them.
const (
	VerdictExempt         Verdict = "exempt"
	VerdictAlways         Verdict = "always"
	VerdictNotOurs        Verdict = "not-ours"
	VerdictListed         Verdict = "listed"
	VerdictRefused        Verdict = "refused"
	VerdictKnown          Verdict = "known"
	VerdictRestricted     Verdict = "restricted"
	VerdictNotReady       Verdict = "not-ready"
	VerdictInGrace        Verdict = "in-grace"
	VerdictStale          Verdict = "stale"
	VerdictConfirmed      Verdict = "confirmed"
	VerdictHarvestLimited Verdict = "harvest-limited"
	VerdictUnknown        Verdict = "unknown"
	// VerdictError: something failed inside, so nothing can be told.
	VerdictError Verdict = "error"
)

// Query is what one RCPT brings. Only Recipient and Argument name the mailbox; every
// field comes from the network and may hold anything.
type Query struct {
	Recipient     string     // the {rcpt_addr} macro: parsed, resolved and folded by the MTA; empty: missing
	Argument      string     // the argument of RCPT TO, read only where Recipient is empty
	Client        netip.Addr // zero: not known, or not an IP client
	ClientName    string     // the client's verified host name, "unknown" where it has none
	Authenticated string     // SASL login name; empty: not authenticated
	Helo          string
	From          string // empty: the null sender, or not known
	QueueID       string // empty before the first accepted recipient of a message
}

// Decision is the answer to a Query, and why it is that.
type Decision struct {
	Verdict     Verdict
	Reply       Reply           // what the MTA is told, mode applied
	WouldRefuse bool            // mode report: WouldReply was turned into continue
	WouldReply  Reply           // the reply that enforce would have given; zero unless WouldRefuse
	Row         int             // row of the table in the package comment; 0 with VerdictError
	Reason      string          // a constant phrase, for people
	Address     address.Address // canonical; zero: cannot be read as an address
	Domain      string          // canonical; empty: none
	Mode        Mode            // of the domain; ModePass also where it is not ours
	Removed     time.Time       // when the address lost its last owner, if the index says so
	Freshness   Freshness       // of the domain; zero where no row before the answer asked for it
	Err         error           // with VerdictError: what failed
}

// Decide answers one RCPT. It has no side effects: it counts, charges and logs
// nothing, so that asking what would happen changes nothing. It never fails: what
// goes wrong inside becomes VerdictError, with 451 in mode enforce. The mode of the
// domain is applied last.
func (p *Policy) Decide(ctx context.Context, q Query) Decision {
	r := p.recipient(q)
	d := p.judgeSafely(ctx, q, r)
	if r.mode == ModeReport && !d.Reply.IsContinue() {
		d.WouldRefuse, d.WouldReply, d.Reply = true, d.Reply, Reply{}
	}
	return d
}

// judge is the table of the package comment. Rows that are not built stand as a
// comment at their place, because the order is part of the meaning.
func (p *Policy) judge(_ context.Context, _ Query, r recipient) Decision {
	// Row 1: exempt clients.

	// Row 2: RFC 5321 section 4.5.1. Postfix makes postmaster@$myorigin of it before
	// we see it, which rows 3 and 4 accept.
	if r.domain == "" && isPostmaster(r.text) {
		return r.answer(2, VerdictAlways, Reply{}, "postmaster without a domain is always accepted")
	}
	// Row 3.
	if r.mode == ModePass {
		return r.answer(3, VerdictNotOurs, Reply{}, "the domain is not judged here")
	}
	// Row 4.
	if p.always[r.address.Local()] {
		return r.answer(4, VerdictAlways, Reply{}, "the local part is always accepted")
	}
	// Row 5: the lists.

	// Nobody can own what cannot be read, whatever the state of the directory.
	// (Row 11 counts these as well.)
	if r.address.IsZero() {
		return r.answer(12, VerdictUnknown, unknownUser(r.text), "not readable as an address")
	}
	// Row 11 with scope all.

	// Row 6; recipients restricted to inside senders are told apart here.
	entry, err := p.lookup(&r)
	if err != nil {
		return r.failed(fmt.Errorf("index: %w", err))
	}
	if entry.Known {
		return r.answer(6, VerdictKnown, Reply{}, "in the index")
	}
	// Row 7.
	if !r.freshness.State.ready() {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(r.text), "the directory has not been read in full yet")
	}
	// Row 8.
	if !r.removed.IsZero() && p.now().Sub(r.removed) < p.removalGrace {
		return r.answer(8, VerdictInGrace, removedRecently(r.text), "removed from the directory a short while ago")
	}
	// Row 9.
	if r.freshness.State == FreshnessStale {
		return r.answer(9, VerdictStale, p.whenStale.reply(r.text), "the directory was last read too long ago")
	}
	// Row 10: confirm by a search in the directory.
	// Row 11: the harvest limit.

	// Row 12.
	return r.answer(12, VerdictUnknown, unknownUser(r.text), "not in the index")
}

// lookup asks the index. An address that it does not know is asked for again once the
// freshness is known: the first answer may be older than the pass that made it fresh.
func (p *Policy) lookup(r *recipient) (Entry, error) {
	entry, err := p.index.Lookup(r.address)
	if err != nil || entry.Known {
		return entry, err
	}
	r.freshness = p.index.Freshness(r.domain)
	entry, err = p.index.Lookup(r.address)
	r.removed = entry.Removed
	return entry, err
}

// judgeSafely turns a panic below it, which can only be a defect, into "cannot tell".
// It stands here and not in the session so that mode report covers it too.
func (p *Policy) judgeSafely(ctx context.Context, q Query, r recipient) (d Decision) {
	defer func() {
		if v := recover(); v != nil {
			d = r.failed(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()
	return p.judge(ctx, q, r)
}

// recipient is whom a query asks about, read once, and what was learned on the way
// down the table.
type recipient struct {
	text      string          // for replies; not escaped yet
	address   address.Address // zero: cannot be read
	domain    string
	mode      Mode
	removed   time.Time
	freshness Freshness
}

// recipient reads the address of a query: the MTA's own reading of it where there is
// one, and the argument of the command otherwise.
func (p *Policy) recipient(q Query) recipient {
	r := recipient{text: q.Recipient}
	var err error
	if q.Recipient != "" {
		r.address, err = address.Parse(q.Recipient)
	} else {
		r.text = q.Argument
		if r.address, err = address.ParsePath(q.Argument); err == nil {
			r.text = r.address.String() // without route, display name and the like
		}
	}
	if r.domain = r.address.Domain(); err != nil {
		r.domain = address.DomainOf(r.text)
	}
	r.mode = p.mode(r.domain)
	return r
}

// isPostmaster reports whether text is postmaster without a domain, in any case,
// with or without brackets and quotes.
func isPostmaster(text string) bool {
	return strings.EqualFold(strings.Trim(text, "<>\" \t"), "postmaster")
}

// answer makes the decision of one row.
func (r recipient) answer(row int, v Verdict, reply Reply, reason string) Decision {
	return Decision{
		Verdict: v, Reply: reply, Row: row, Reason: reason,
		Address: r.address, Domain: r.domain, Mode: r.mode,
		Removed: r.removed, Freshness: r.freshness,
	}
}

// failed is the answer where nothing can be told.
func (r recipient) failed(err error) Decision {
	d := r.answer(0, VerdictError, cannotTell(r.text), "an internal error")
	d.Err = err
	return d
}
