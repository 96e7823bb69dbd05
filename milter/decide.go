package milter

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
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
	Entry       string          // what of the configuration matched, where Reason alone does not say; empty: nothing
	Shared      bool            // it stands for any number of addresses
	Address     address.Address // canonical; zero: cannot be read as an address
	JudgedAs    address.Address // Address in the domain that its own is an alias of; zero: as it is
	AliasedBy   string          // with an alias: domain_aliases, or the line of an accept file; empty: no alias decided
	Match       address.Address // what was found: Address or JudgedAs, or it without its extension; zero: nothing was
	Domain      string          // canonical; empty: none
	Mode        Mode            // of the domain; ModePass also where it is not ours
	Removed     time.Time       // when Match lost its last owner, or outside senders lost it, if the index says so
	Asked       bool            // Freshness was asked for, which only what may be refused needs
	Freshness   Freshness       // of the domain; zero unless Asked
	Err         error           // with VerdictError: what failed
}

// Decide answers one RCPT. It has no side effects: it counts, charges and logs
// nothing, so that asking what would happen changes nothing. It never fails: what
// goes wrong inside becomes VerdictError, with 451 in mode enforce. The mode of the
// domain is applied last.
func (p *Policy) Decide(ctx context.Context, q Query) Decision {
	r := p.recipient(q)
	d := p.judgeForms(ctx, q, r)
	if r.mode == ModeReport && !d.Reply.IsContinue() {
		d.WouldRefuse, d.WouldReply, d.Reply = true, d.Reply, Reply{}
	}
	return d
}

// judge is the table of the package comment.
func (p *Policy) judge(ctx context.Context, q Query, r recipient) Decision {
	// Row 1.
	if p.exempt(q, &r) {
		return r.answer(1, VerdictExempt, Reply{}, "the client is exempt")
	}
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
	if p.alwaysAccepts(&r) {
		return r.answer(4, VerdictAlways, Reply{}, "the local part is always accepted")
	}
	// Row 5.
	if found, reason := p.lists.find(&r); found == VerdictRefused {
		return r.answer(5, VerdictRefused, unknownUser(r.text), reason)
	} else if found == VerdictListed {
		return r.answer(5, VerdictListed, Reply{}, reason)
	}
	// Row 11, moved up; it also counts what cannot be read.
	if (p.harvestAll || !r.readable()) && p.limited(q) {
		return r.answer(11, VerdictHarvestLimited, p.harvestReply.reply(r.text), harvestReason)
	}
	// Nobody can own what cannot be read, whatever the state of the directory.
	if !r.readable() {
		return r.answer(12, VerdictUnknown, unknownUser(r.text), "not readable as an address")
	}
	// Row 6. Who is restricted goes down the table like the unknown: a refusal takes an
	// index that can be trusted, and rows 7 to 11 must not tell the two apart.
	entry, err := p.lookup(&r)
	if err != nil {
		return r.failed(fmt.Errorf("index: %w", err))
	}
	if p.takes(entry, q, &r) {
		return r.answer(6, VerdictKnown, Reply{}, r.found("in the index"))
	}
	// Row 7.
	if !r.freshness.State.ready() {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(entry, r.text), "the directory has not been read in full yet")
	}
	if r.empty && !entry.Known {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(entry, r.text), "no address of the domain is known")
	}
	// Row 8. To outside senders an address that becomes internal-only is removed.
	if !r.removed.IsZero() && p.age(r.removed) < p.removalGrace {
		reason := "removed from the directory a short while ago"
		if entry.Known {
			reason = "takes mail from inside senders only since a short while ago"
		}
		return r.answer(8, VerdictInGrace, removedRecently(r.text), reason)
	}
	// Row 9.
	if r.freshness.State == FreshnessStale {
		return r.answer(9, VerdictStale, p.whenStale.reply(entry, r.text), "the directory was last read too long ago")
	}
	// Row 10.
	limited := p.limited(q)
	if !entry.Known {
		entry = p.confirmed(ctx, &r, limited)
	}
	if p.takes(entry, q, &r) {
		return r.answer(10, VerdictConfirmed, Reply{}, r.found("found by a search in the directory"))
	}
	// Row 11.
	if limited {
		return r.answer(11, VerdictHarvestLimited, p.harvestReply.reply(r.text), harvestReason)
	}
	// Row 6 again, for those whom it left. The text is that of row 12, because any other
	// would tell that they exist.
	if entry.Known {
		return r.answer(6, VerdictRestricted, unknownUser(r.text), "takes mail from inside senders only")
	}
	// Row 12.
	return r.answer(12, VerdictUnknown, unknownUser(r.text), "not in the index")
}

// harvestReason is that of row 11, at both of its places.
const harvestReason = "the client's network asks for too many unknown recipients"

// exempt reports whether the client is one of those whom nothing is refused.
func (p *Policy) exempt(q Query, r *recipient) bool {
	if p.exemptAuthenticated && q.Authenticated != "" {
		r.entry = "authenticated"
		return true
	}
	network, found := containing(p.exemptNetworks, q.Client)
	if found {
		r.entry = network.String()
	}
	return found
}

// alwaysAccepts reports whether the local part is one of the configured.
func (p *Policy) alwaysAccepts(r *recipient) bool {
	for _, form := range r.forms() {
		if p.always[form.Local()] {
			r.match = form
			return true
		}
	}
	return false
}

// limited reports whether the client's network is over its harvest limit.
func (p *Policy) limited(q Query) bool { return p.harvest != nil && p.harvest.Limited(q) }

// takes reports whether the sender of a query may write to the owners of an entry. An
// internal-only entry takes mail from clients that have logged in, and from clients of the
// inside networks.
func (p *Policy) takes(e Entry, q Query, r *recipient) bool {
	if !e.Known || !e.InternalOnly || q.Authenticated != "" {
		return e.Known
	}
	network, inside := containing(p.insideNetworks, q.Client)
	if inside {
		r.entry = network.String()
	}
	return inside
}

// lookup asks the index. What may be refused is asked for again once the freshness is
// known: the first answer may be older than the pass that made it fresh, or that brought
// the first addresses of the domain.
func (p *Policy) lookup(r *recipient) (Entry, error) {
	entry, err := p.indexed(r)
	if err != nil || entry.Known && !entry.InternalOnly {
		return entry, err
	}
	r.asked, r.freshness = true, p.index.Freshness(r.domain)
	r.empty = r.mode == ModeEnforce && !r.aliased && !p.populated(r.form[0].Domain())
	return p.indexed(r)
}

// indexed asks the index for one form after the other. Where none is known, the one
// that was removed last counts.
func (p *Policy) indexed(r *recipient) (Entry, error) {
	r.match, r.removed = address.Address{}, time.Time{}
	for _, form := range r.forms() {
		entry, err := p.index.Lookup(form)
		if err != nil {
			return Entry{}, err
		}
		if !entry.Removed.IsZero() && (r.removed.IsZero() || p.age(entry.Removed) < p.age(r.removed)) {
			r.match, r.removed = form, entry.Removed
		}
		if entry.Known {
			r.match = form
			return entry, nil
		}
	}
	return Entry{}, nil
}

// age returns how long ago something happened. A time in the future was written down
// while the clock was ahead: it is as little believed as one as long ago.
func (p *Policy) age(at time.Time) time.Duration { return p.now().Sub(at).Abs() }

// confirmed asks the directory itself for one form after the other. No answer is as if
// nothing was found: then the index, which is fresh, is believed.
func (p *Policy) confirmed(ctx context.Context, r *recipient, suspect bool) Entry {
	if p.confirm == nil || r.unconfirmed {
		return Entry{}
	}
	for _, form := range r.forms() {
		entry, err := p.confirm.Confirm(ctx, form, suspect)
		if err != nil {
			break
		}
		if entry.Known {
			r.match = form
			return entry
		}
	}
	return Entry{}
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
