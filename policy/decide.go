package policy

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"rcpt-milter/address"
)

// Decision is the answer to a Query, and the reason for it.
type Decision struct {
	Verdict     Verdict
	Reply       Reply           // to the MTA, after the mode was applied
	WouldRefuse bool            // mode report turned WouldReply into continue
	WouldReply  Reply           // the reply in mode enforce; zero unless WouldRefuse
	WouldLimit  bool            // row 11 would have answered if Config.HarvestReportOnly were off
	Row         int             // row of the decision table; 0 with VerdictError
	Reason      string          // a constant phrase for people
	Entry       string          // the configuration entry that matched; empty if Reason says enough
	Shared      bool            // Entry matches any number of addresses
	Address     address.Address // canonical; zero if the recipient is not readable as an address
	JudgedAs    address.Address // Address in the target domain of an alias; zero without an alias
	AliasedBy   string          // domain_aliases, or the line of an accept file; empty without an alias
	Match       address.Address // what was found: Address or JudgedAs, or it without extension or tag; zero: nothing
	Stripped    string          // the entry of StripPrefixes whose tag Match lacks; empty: none
	Domain      string          // canonical; empty: none
	Mode        Mode            // of the domain; ModePass also for a domain that is not ours
	Removed     time.Time       // when Match lost its last owner, or outside senders lost it, if the index says so
	Asked       bool            // the index was asked for its Freshness
	Freshness   Freshness       // of the domain; zero unless Asked
	Err         error           // with VerdictError: what failed
}

// Decide answers one RCPT. It has no side effects: it counts, charges and logs nothing.
// It never fails: an internal error becomes VerdictError, which is 451 in mode enforce.
// The mode of the domain is applied last.
//
// A recipient of an alias domain goes through the table as written and in each target
// domain; see decideAliased.
func (p *Policy) Decide(ctx context.Context, q Query) Decision {
	r := p.recipient(q)
	var d Decision
	if targets := p.AliasTargets(r.domain); len(targets) > 0 {
		d = p.decideAliased(ctx, q, r, targets)
	} else {
		d = p.decide(ctx, q, r)
	}
	d.WouldLimit = p.wouldLimit(q, d)
	if r.mode == ModeReport && !d.Reply.IsContinue() {
		d.WouldRefuse, d.WouldReply, d.Reply = true, d.Reply, Reply{}
	}
	return d
}

// decide goes through the decision table: the first row that matches answers. The rows
// are those of Rows and of docs/flow.md.
//
// Rows 6 to 10 need the index, which is not asked about a recipient that is not readable
// as an address, nor for a client over the harvest limit with harvest.scope all. Then
// none of these rows matches.
//
// An internal-only recipient that the sender may not write to goes down the table like an
// unknown one, because rows 7 to 12 must not tell the two apart. Only its verdict differs.
// A recipient in refuse is rejected in any state of the index, but costs the same; see
// denylisted.
func (p *Policy) decide(ctx context.Context, q Query, r recipient) (d Decision) {
	defer func() { // a panic is a defect, and means "cannot tell"; in mode report too
		if v := recover(); v != nil {
			d = r.failed(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()

	// Row 1: the client is exempt.
	if p.exempt(q, &r) {
		return r.answer(1, VerdictExempt, Reply{}, "the client is exempt")
	}

	// Row 2: bare postmaster, without a domain. RFC 5321 section 4.5.1. Postfix usually adds
	// $myorigin before the milter sees the recipient; then row 3 or 4 accepts it.
	if r.domain == "" && isPostmaster(r.text) {
		return r.answer(2, VerdictAlways, Reply{}, "postmaster without a domain is always accepted")
	}

	// Row 3: the domain is not ours, or its mode is pass.
	if r.mode == ModePass {
		return r.answer(3, VerdictNotOurs, Reply{}, "the domain is not judged here")
	}

	// Row 4: the local part is always accepted.
	if p.alwaysAccepts(&r) {
		return r.answer(4, VerdictAlways, Reply{}, "the local part is always accepted")
	}

	// Row 5: the recipient is in a list.
	if verdict, reason := p.lists.find(&r); verdict == VerdictAllowlisted {
		return r.answer(5, verdict, Reply{}, reason)
	} else if verdict == VerdictDenylisted || r.refused {
		return p.denylisted(ctx, q, r, reason)
	}

	limited := (p.harvestAll || !r.readable()) && p.limited(q)
	var entry Entry
	if r.readable() && !limited {
		var err error
		if entry, err = p.lookup(&r); err != nil {
			return r.failed(fmt.Errorf("index: %w", err))
		}
	}

	// Row 5 for a file that was read meanwhile, perhaps a fresh one in place of a stale one.
	if r.filed {
		return r.answer(5, VerdictAllowlisted, Reply{}, filedReason)
	}

	// Row 6: the recipient is in the index. If the sender may not write to it, it goes on to
	// row 12.
	if p.allowsSender(entry, q, &r) {
		return r.answer(6, VerdictKnown, Reply{}, r.found("in the index"))
	}
	if entry.Doubt != nil {
		return r.failed(fmt.Errorf("index: %w", entry.Doubt))
	}

	// Row 7: the index is not ready for the domain.
	if reason := r.notReady(entry); reason != "" {
		return r.answer(7, VerdictNotReady, p.whenNotReady.reply(entry, r.text), reason)
	}

	// Row 8: removed, or lost to outside senders, less than the removal grace ago.
	if !r.removed.IsZero() && p.age(r.removed) < p.removalGrace {
		return r.answer(8, VerdictInGrace, removedRecently(r.text), removedReason(entry))
	}

	// Row 9: the last good pass is too old. An accept file that is too old counts like one.
	if r.freshness.State == Stale {
		return r.answer(9, VerdictStale, p.whenStale.reply(entry, r.text), r.staleReason())
	}

	// Row 10: a search in the directory finds the recipient. An internal-only one may have
	// opened since, and its answer must not take less time than that of an unknown one.
	limited = limited || p.limited(q)
	if r.asked {
		if found := p.confirmed(ctx, q, &r, limited); found.Known {
			entry = found
		} else if ctx.Err() != nil {
			return r.failed(fmt.Errorf("confirm: %w", ctx.Err()))
		}
	}
	if p.allowsSender(entry, q, &r) {
		return r.answer(10, VerdictConfirmed, Reply{}, r.found("found by a search in the directory"))
	}

	// Row 11: the client's network is over its harvest limit.
	if limited {
		return p.overLimit(&r)
	}

	// Row 12: otherwise. All of these get the same reply.
	row, verdict, reason := r.rejected(entry)
	return r.answer(row, verdict, unknownUser(r.text), reason)
}

// denylisted returns the decision about a recipient in refuse. It costs the lookups and searches
// of an unknown recipient, whatever the index has, and a network over its harvest limit gets the
// reply of row 11. So neither time nor the limit tells the two apart, unless half of the budget for
// searches is used up.
func (p *Policy) denylisted(ctx context.Context, q Query, r recipient, reason string) Decision {
	limited := p.limited(q)
	if r.readable() && !(limited && p.harvestAll) {
		p.spend(ctx, r)
	}
	if limited {
		return p.overLimit(&r)
	}
	return r.answer(5, VerdictDenylisted, unknownUser(r.text), reason)
}

// overLimit returns the decision of row 11.
func (p *Policy) overLimit(r *recipient) Decision {
	return r.answer(11, VerdictHarvestLimited, p.harvestReply.reply(r.text),
		"the client's network asks for too many unknown recipients")
}

// rejected returns what to report of a recipient that row 12 rejects. An internal-only
// recipient is reported with row 6, where it was found.
func (r *recipient) rejected(e Entry) (row int, v Verdict, reason string) {
	switch {
	case !r.readable():
		return 12, VerdictUnknown, "not readable as an address"
	case e.Known:
		return 6, VerdictRestricted, "takes mail from inside senders only"
	}
	return 12, VerdictUnknown, "not in the index"
}

// notReady returns why the index cannot be trusted yet about a recipient of which it has
// entry; empty if it can be, or was not asked.
func (r *recipient) notReady(e Entry) string {
	switch {
	case r.asked && !r.freshness.State.Ready():
		return "the directory has not been read in full yet"
	case r.empty && !e.Known:
		return "no address of the domain is known"
	}
	return ""
}

// staleReason returns the reason of row 9.
func (r *recipient) staleReason() string {
	if r.freshness.File != "" {
		return "the accept file " + r.freshness.File + " is older than accept_files_max_age"
	}
	return "the directory was last read too long ago"
}

// removedReason returns the reason of row 8. An entry that is known became internal-only.
func removedReason(e Entry) string {
	if e.Known {
		return "internal-only since a short while ago"
	}
	return "removed from the directory a short while ago"
}

// exempt reports whether the client is exempt.
func (p *Policy) exempt(q Query, r *recipient) bool {
	if p.exemptAuthenticated && q.Authenticated != "" {
		r.entry = "authenticated"
		return true
	}
	network, found := p.translators.containing(p.exemptNetworks, q.Client)
	if found {
		r.entry = network.String()
	}
	return found
}

// alwaysAccepts reports whether the local part is in AlwaysAccept.
func (p *Policy) alwaysAccepts(r *recipient) bool {
	for _, form := range r.all() {
		if p.always[form.Local()] {
			r.match = form
			return true
		}
	}
	return false
}

// limited reports whether the client's network is over its harvest limit, and gets the reply
// of row 11.
func (p *Policy) limited(q Query) bool {
	return p.harvest != nil && !p.harvestReportOnly && p.harvest.Limited(q)
}

// wouldLimit reports whether the harvest limit would have answered, if it only reports.
func (p *Policy) wouldLimit(q Query, d Decision) bool {
	switch {
	case p.harvest == nil || !p.harvestReportOnly:
		return false
	case d.Row == 12, d.Verdict == VerdictRestricted, d.Verdict == VerdictDenylisted:
	case p.harvestAll && d.Row >= 6:
	default:
		return false
	}
	return p.harvest.Limited(q)
}

// allowsSender reports whether an entry is known and the sender of a query may write to its
// owners. An internal-only entry takes mail from clients that have logged in, and from
// clients of the inside networks. It counts as known if the sender is not.
func (p *Policy) allowsSender(e Entry, q Query, r *recipient) bool {
	if !e.Known || !e.InternalOnly || q.AnySender || q.Authenticated != "" {
		return e.Known
	}
	network, inside := p.translators.containing(p.insideNetworks, q.Client)
	if inside {
		r.entry = network.String()
	}
	return inside
}

// lookup asks the index. An answer that may lead to a rejection is asked for a second time
// after the freshness: the first one may be older than the pass that made the index fresh,
// or that added the first addresses of the domain. The same holds for the files.
func (p *Policy) lookup(r *recipient) (Entry, error) {
	entry, err := p.lookupForms(r)
	if err != nil || entry.Known && !entry.InternalOnly {
		return entry, err
	}
	r.asked, r.freshness = true, p.index.Freshness(r.domain)
	r.empty = r.mode == ModeEnforce && !r.aliased && !p.populated(r.form[0].Domain())
	if r.filed = p.lists.inFiles(r); r.filed {
		return Entry{}, nil
	}
	return p.lookupForms(r)
}

// lookupForms asks the index for one form after the other until one is known. If none is,
// the form that was removed last counts.
func (p *Policy) lookupForms(r *recipient) (Entry, error) {
	r.match, r.removed = address.Address{}, time.Time{}
	for n, form := range r.all() {
		entry, err := p.index.Lookup(form)
		if err != nil {
			return Entry{}, err
		}
		if n >= len(r.counted()) {
			continue // it costs as much as an unknown one
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

// age returns the time since at. A time in the future was recorded while the clock was
// ahead, and counts like one as far in the past.
func (p *Policy) age(at time.Time) time.Duration { return p.now().Sub(at).Abs() }

// confirmed asks the directory for one form after the other. The first one that it has counts.
// If the sender may not write to that one, the others are still searched for: an internal-only
// recipient must not cost fewer searches than an unknown one. Without an answer the index, which
// is fresh, counts.
func (p *Policy) confirmed(ctx context.Context, q Query, r *recipient, suspect bool) (found Entry) {
	if p.confirm == nil || r.unconfirmed {
		return Entry{}
	}
	for n, form := range r.all() {
		entry, err := p.confirm.Confirm(ctx, form, suspect)
		if err != nil {
			break
		}
		if n >= len(r.counted()) {
			continue // it costs as much as an unknown one
		}
		if entry.Known && !found.Known {
			found, r.match = entry, form
		}
		if p.allowsSender(found, q, r) {
			break
		}
	}
	return found
}
