package policy

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/internal/clock"
)

// Decision is the answer to a Query and the reason for it.
type Decision struct {
	Verdict     Verdict
	Reply       Reply           // to the MTA, with the mode applied
	WouldRefuse bool            // mode report turned WouldReply into continue
	WouldReply  Reply           // reply in mode enforce; zero unless WouldRefuse
	WouldLimit  bool            // row 11 would have matched without Config.HarvestReportOnly
	Row         int             // row of the decision table; 0 for VerdictError
	Reason      string          // constant phrase for people
	Entry       string          // configuration entry that matched; empty if Reason suffices
	Shared      bool            // Entry matches any number of addresses
	Address     address.Address // canonical; zero if the recipient cannot be parsed
	JudgedAs    address.Address // Address in the target domain of an alias; zero without an alias
	AliasedBy   string          // domain_aliases, or file and line in an accept file; empty without an alias
	Match       address.Address // the form that was found, perhaps without extension or tag; zero means none
	Stripped    string          // entry of StripPrefixes whose tag Match lacks; empty means none
	Domain      string          // canonical; empty means none
	Mode        Mode            // mode of the domain; ModePass for a domain that is not ours
	Removed     time.Time       // when Match lost its last owner or became internal-only; zero means unknown
	Asked       bool            // the index was queried for its Freshness
	Freshness   Freshness       // of the domain; zero unless Asked
	Err         error           // cause of VerdictError
}

// Decide answers one RCPT. It counts, charges and logs nothing. It never fails: an internal error becomes
// VerdictError, which is 451 in mode enforce. The mode of the domain is applied last.
//
// Row 10 searches the directory. That consumes search budget and fills the result cache, for lookups too, unless
// Query.NoSearch is set.
//
// A recipient in an alias domain is evaluated as written and in each target domain; see decideAliased.
func (p *Policy) Decide(ctx context.Context, q Query) Decision {
	r := p.recipient(q)
	targets := p.AliasTargets(r.domain)
	d := p.decideWith(ctx, q, r, targets)
	if !d.Reply.IsContinue() { // a file may have been reloaded during the decision, perhaps in place of a stale one
		if now := p.AliasTargets(r.domain); !slices.Equal(now, targets) {
			d = p.decideWith(ctx, q, r, now)
		}
	}
	d.WouldLimit = p.wouldLimit(q, d)
	if r.mode == ModeReport && !d.Reply.IsContinue() {
		d.WouldRefuse, d.WouldReply, d.Reply = true, d.Reply, Reply{}
	}
	return d
}

// decideWith evaluates a recipient whose domain has these targets as an alias; empty means that it is none.
func (p *Policy) decideWith(ctx context.Context, q Query, r recipient, targets []AliasTarget) Decision {
	if len(targets) > 0 {
		return p.decideAliased(ctx, q, r, targets)
	}
	return p.decide(ctx, q, r)
}

// decide evaluates the decision table. The first row that matches answers. The rows are those of Rows and of
// docs/flow.md.
//
// Rows 6 to 10 query the index. They are skipped for a recipient that cannot be parsed, and for a client over
// the harvest limit if harvest.scope is all.
//
// An internal-only recipient whose sender may not write to it is evaluated like an unknown one, because rows 7
// to 12 must not reveal the difference. Only its verdict differs. A recipient in refuse is rejected whatever
// the state of the index is, but at the same cost; see denylisted.
func (p *Policy) decide(ctx context.Context, q Query, r recipient) (d Decision) {
	defer func() { // a panic means "cannot tell", even in mode report
		if v := recover(); v != nil {
			d = r.failed(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
	}()

	// Row 1: the client is exempt.
	if p.exempt(q, &r) {
		return r.answer(1, VerdictExempt, Reply{}, "the client is exempt")
	}

	// Row 2: bare postmaster, without a domain. RFC 5321 section 4.5.1. Postfix usually appends $myorigin before
	// the milter sees the recipient; then row 3 or 4 accepts it.
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

	// Row 5 again, for a file that was reloaded during the decision, perhaps in place of a stale one.
	if r.inFile {
		return r.answer(5, VerdictAllowlisted, Reply{}, filedReason)
	}

	// Row 6: the recipient is in the index. If the sender may not write to it, evaluation continues to row 12.
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

	// Row 9: the last good pass is too old. An accept file beyond its maximum age has the same effect.
	if r.freshness.State == Stale {
		return r.answer(9, VerdictStale, p.staleFallback(&r).reply(entry, r.text), r.staleReason())
	}

	// Row 10: a search in the directory finds the recipient. Internal-only recipients are searched for, too: the
	// restriction may have been lifted, and they must take as long as unknown ones.
	limited = limited || p.limited(q)
	if r.asked {
		if found := p.confirmed(ctx, q, &r, limited || q.Lookup); found.Known {
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

	// Row 12: otherwise. All these recipients get the same reply.
	row, verdict, reason := r.rejected(entry)
	return r.answer(row, verdict, unknownUser(r.text), reason)
}

// denylisted returns the decision about a recipient in refuse. It costs the lookups and searches of an unknown
// recipient, whatever the index has. A network over its harvest limit gets the reply of row 11. Neither the
// time nor the limit therefore reveals the difference, unless half of the search budget is used up.
func (p *Policy) denylisted(ctx context.Context, q Query, r recipient, reason string) Decision {
	limited := p.limited(q)
	if r.readable() && !q.NoSearch && !(limited && p.harvestAll) {
		p.spendUnknownCost(ctx, r)
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

// rejected returns what to report about a recipient that row 12 rejects. An internal-only recipient is reported
// with row 6, which found it.
func (r *recipient) rejected(e Entry) (row int, v Verdict, reason string) {
	switch {
	case !r.readable():
		return 12, VerdictUnknown, "not readable as an address"
	case e.Known:
		return 6, VerdictRestricted, "takes mail from inside senders only"
	}
	return 12, VerdictUnknown, "not in the index"
}

// notReady returns why the index cannot be trusted yet about a recipient with entry e. It returns an empty
// string if the index can be trusted, or was not queried.
func (r *recipient) notReady(e Entry) string {
	switch {
	case r.asked && r.freshness.State == Widening:
		return "the index may lack addresses until a full pass of the directory ends"
	case r.asked && !r.freshness.State.Ready():
		return "the directory has not been read in full yet"
	case r.empty && !e.Known:
		return "no address of the domain is known"
	}
	return ""
}

// staleFallback returns the fallback of row 9. FallbackRefuse is for an index that is old; one that lost a part
// must not lead to a rejection.
func (p *Policy) staleFallback(r *recipient) Fallback {
	if r.freshness.Doubt != "" && p.whenStale == FallbackRefuse {
		return FallbackTempfail
	}
	return p.whenStale
}

// staleReason returns the reason of row 9.
func (r *recipient) staleReason() string {
	if r.freshness.Doubt != "" {
		return "the accept file " + r.freshness.File + " may lack entries: " + r.freshness.Doubt
	}
	if r.freshness.File != "" {
		return "the accept file " + r.freshness.File + " is older than accept_files_max_age"
	}
	return "the directory was last read too long ago"
}

// removedReason returns the reason of row 8. If e is known, it became internal-only.
func removedReason(e Entry) string {
	if e.Known {
		return "became internal-only a short while ago"
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

// limited reports whether the network of the client is over its harvest limit, and row 11 matches.
func (p *Policy) limited(q Query) bool {
	return p.harvest != nil && !p.harvestReportOnly && p.harvest.Limited(q)
}

// wouldLimit reports whether row 11 would have matched if the harvest limit did not only report.
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

// allowsSender reports whether an entry is known and the sender of the query may write to its owners. An
// internal-only entry accepts mail from authenticated clients and from inside networks. If the sender is
// unknown (AnySender), it counts as permitted.
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

// lookup queries the index. If the answer may lead to a rejection, lookup repeats the query after it has read
// the freshness. The first answer may be older than the pass that made the index fresh or added the first
// addresses of the domain. It checks the accept files again for the same reason.
func (p *Policy) lookup(r *recipient) (Entry, error) {
	entry, err := p.lookupForms(r)
	if err != nil || entry.Known && !entry.InternalOnly {
		return entry, err
	}
	r.asked, r.freshness = true, p.index.Freshness(r.domain)
	r.empty = r.mode == ModeEnforce && !r.aliased && !p.populated(r.form[0].Domain())
	if r.inFile = p.lists.inFiles(r); r.inFile {
		return Entry{}, nil
	}
	return p.lookupForms(r)
}

// lookupForms looks up the forms of a recipient in turn until one is known. If none is known, the form that was
// removed last counts. An error for one form does not hide another that is known, which accepts the recipient. If
// none is known, the error is returned, because nothing may reject the recipient then.
func (p *Policy) lookupForms(r *recipient) (Entry, error) {
	r.match, r.removed = address.Address{}, time.Time{}
	var lookupErr error
	for n, form := range r.all() {
		entry, err := p.index.Lookup(form)
		if err != nil {
			lookupErr = cmp.Or(lookupErr, err)
			continue
		}
		if n >= len(r.counted()) {
			continue // look it up anyway, for the cost of an unknown recipient
		}
		if !entry.Removed.IsZero() && (r.removed.IsZero() || p.age(entry.Removed) < p.age(r.removed)) {
			r.match, r.removed = form, entry.Removed
		}
		if entry.Known {
			r.match = form
			entry.Doubt = cmp.Or(entry.Doubt, lookupErr)
			return entry, nil
		}
	}
	return Entry{}, lookupErr
}

// age returns the time since at. A time in the future was recorded while the clock was ahead. It counts like one
// equally far in the past.
func (p *Policy) age(at time.Time) time.Duration { return clock.Distance(at, p.now()) }

// confirmed searches the directories for the forms of a recipient in turn. The first form that exists counts.
// If the sender may not write to it, the remaining forms are searched for all the same, because an
// internal-only recipient must not cost fewer searches than an unknown one. If there is no answer, the index
// counts, which is fresh.
func (p *Policy) confirmed(ctx context.Context, q Query, r *recipient, suspect bool) (found Entry) {
	if p.confirm == nil || r.unconfirmed || q.NoSearch {
		return Entry{}
	}
	for n, form := range r.all() {
		entry, err := p.confirm.Confirm(ctx, form, suspect)
		switch {
		case ctx.Err() != nil:
			return found
		case err != nil:
			continue // another form may be remembered from a former search
		}
		if n >= len(r.counted()) {
			continue // search for it anyway, for the cost of an unknown recipient
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
