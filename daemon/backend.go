package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/control"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	tables "rcpt-milter/postfix/table"
	"rcpt-milter/store"
)

// backend answers the control socket.
type backend struct {
	*daemon
	started time.Time
	now     func() time.Time
}

var _ control.Backend = backend{}

func (b backend) Status(context.Context) (control.Status, error) {
	totals, health := b.store.Totals(), b.store.Health()
	host, _ := os.Hostname() // empty if it has none
	s := control.Status{
		Host: host, WhenStale: b.config.Load().WhenStale, WhenNotReady: b.config.Load().WhenNotReady,
		Version: b.version, Started: control.Time{Time: b.started},
		Addresses: totals.Addresses, Objects: totals.Objects, Unparsed: totals.Unparsed,
		Digest: totals.Digest, Domains: totals.Domains, Modes: map[string]string{},
		Decisions:   byName(b.server.Counters().Decisions()),
		WouldRefuse: byName(b.server.Counters().WouldRefuse()),
		Sessions:    b.server.Sessions(), DomainDecisions: b.domains.Counts(),
		Alarms:      append(b.canaries.Alarms(), storeAlarms(health)...),
		Directories: b.syncs.Directories(), StoreVerified: control.Time{Time: b.maintenance.verified()},
		StoreState: control.StoreState(health.State), StoreSetAside: health.SetAside,
	}
	if health.Err != nil {
		s.StoreError = health.Err.Error()
	}
	if !b.started.IsZero() { // zero for a stopped daemon, whose secrets this user may not read
		b.syncs.active().warnOfSecrets(s.Directories)
		b.syncs.expiries.addTo(s.Directories, b.now())
		s.Listeners, s.Descriptors = b.listenerStatus(), countDescriptors()
		b.fleet.addTo(&s, b.now())
	}
	s.LogDropped = b.logs.Dropped()
	if trouble := b.logs.Trouble(); trouble != "" {
		s.Alarms = append(s.Alarms, trouble)
	}
	if trouble := b.tokenTrouble(); trouble != "" {
		s.Alarms = append(s.Alarms, trouble)
	}
	read := b.reloads.lastOutcome()
	s.ReloadError, s.RestartNeeded = read.Refused, read.Restart
	if from, err := b.store.JournalFrom(); err == nil {
		s.JournalFrom = control.Time{Time: from}
	}
	s.UnparsedValues = b.unparsedValues(totals.Unparsed)
	for domain, mode := range b.config.Load().Domains {
		s.Modes[domain] = string(mode)
	}
	ages := b.index().ages
	for _, f := range b.files.Status() {
		s.AcceptFiles = append(s.AcceptFiles, acceptFileOf(f, ages.state(f.Modified)))
	}
	s.EmptyDomains = emptyDomains(b.config.Load(), b.index(), b.files)
	s.Confirm = b.confirmer.Load().status()
	b.fleet.nameConfirmers(s.Confirm)
	addHarvest(b.harvest.Load(), b.config.Load().Harvest.Mode, b.server.Counters().WouldLimit(), &s)
	s.Export = b.exportFile.Status()
	if len(b.config.Load().ListenSocketmap) > 0 {
		n := b.socketmap.Counts()
		s.Socketmap = &control.SocketmapStatus{OK: n.Found, NotFound: n.NotFound, Temp: n.Temporary, Perm: n.Permanent}
	}
	s.State = control.Fresh
	for _, d := range s.Directories {
		s.State = control.Worst(s.State, d.State)
	}
	for _, f := range s.AcceptFiles {
		s.State = control.Worst(s.State, f.State)
	}
	return s, nil
}

// Ready returns an error if recipients get no answer.
func (b backend) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return b.prober.check(ctx)
}

func acceptFileOf(f tables.FileStatus, state control.State) control.AcceptFile {
	out := control.AcceptFile{File: f.File, State: state, Read: control.Time{Time: f.Read},
		Modified: control.Time{Time: f.Modified},
		Entries:  int64(f.Entries), Domains: int64(f.Domains), Aliases: int64(f.Aliases),
		Trouble: f.Trouble, Since: control.Time{Time: f.Since}, Unread: int64(f.Unread), Unmatched: int64(f.Unmatched)}
	for _, p := range f.Problems {
		out.UnreadLines = append(out.UnreadLines, p.String())
	}
	for _, p := range f.Unjudged {
		out.UnmatchedLines = append(out.UnmatchedLines, p.String())
	}
	return out
}

// byName converts counters by verdict to counters by name.
func byName(counts map[policy.Verdict]int64) map[string]int64 {
	m := make(map[string]int64, len(counts))
	for verdict, n := range counts {
		m[string(verdict)] = n
	}
	return m
}

// notNull makes a lookup one for ordinary mail. A query without a sender is one for a bounce.
const notNull = "lookup"

func (b backend) Lookup(ctx context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	query := policy.Query{Argument: q.Address, From: notNull}
	if q.Client != "" {
		client, err := netip.ParseAddr(q.Client)
		if err != nil {
			return control.LookupAnswer{}, fmt.Errorf("client: expected an IP address, got %q", q.Client)
		}
		query.Client = client
	}
	if q.Authenticated {
		query.Authenticated = "lookup"
	}
	if !q.At.IsZero() {
		return b.lookupAt(ctx, q, query)
	}
	d := b.server.Policy().Decide(ctx, query)
	answer := answerOf(d)
	answer.Address, answer.LoggedAs = q.Address, b.server.LoggedAs(q.Address)
	answer.Harvest = harvestOf(b.harvest.Load(), query.Client)
	return answer, b.describe(subject(d), &answer)
}

// subject returns the form of the address that was found. If none was found, it returns the
// whole address.
func subject(d policy.Decision) address.Address {
	switch {
	case !d.Match.IsZero():
		return d.Match
	case !d.JudgedAs.IsZero():
		return d.JudgedAs
	}
	return d.Address
}

// answerOf converts a decision.
func answerOf(d policy.Decision) control.LookupAnswer {
	answer := control.LookupAnswer{
		Canonical: d.Address.String(), Domain: d.Domain, Mode: string(d.Mode),
		Outcome: d.Reply.Outcome(), Reply: d.Reply.String(), Verdict: string(d.Verdict),
		WouldRefuse: d.WouldRefuse, Rule: d.Row, Reason: d.Reason, Entry: d.Entry, Matched: d.Match.String(),
		Stripped: d.Stripped,
		JudgedAs: d.JudgedAs.String(), AliasedBy: d.AliasedBy,
	}
	if d.WouldRefuse {
		answer.WouldReply = d.WouldReply.String()
	}
	if d.Err != nil {
		answer.Error = d.Err.Error()
	}
	if d.Asked && d.Freshness.File == "" { // the reason names a file
		answer.Directory, answer.DirectoryState = d.Freshness.Directory, d.Freshness.State
	}
	return answer
}

// describe adds what the store has about an address. An error of the store is part of the
// decision already.
func (b backend) describe(a address.Address, answer *control.LookupAnswer) error {
	if a.IsZero() {
		return nil
	}
	detail, err := b.store.Describe(a)
	if err != nil {
		if answer.Error == "" {
			answer.Error = err.Error()
		}
		return nil
	}
	addDetail(answer, detail.Owners, detail.History)
	b.fleet.nameHubs(answer.Owners)
	answer.Removed = control.Time{Time: detail.Removed}
	answer.RemovedPass = detail.RemovedPass
	return nil
}

// addDetail adds owners and journal rows of an address to an answer.
func addDetail(answer *control.LookupAnswer, owners []store.Owner, history []store.Event) {
	for _, o := range owners {
		answer.Owners = append(answer.Owners, ownerOf(o))
	}
	for _, e := range history {
		answer.History = append(answer.History, journalRowOf(e))
	}
}

func ownerOf(o store.Owner) control.Owner {
	return control.Owner{
		Directory: o.Directory, GUID: mirror.GUIDText(o.GUID), DN: o.DN, Class: o.Class,
		Attribute:    schemaSpelling(o.Attribute),
		InternalOnly: o.InternalOnly, Gone: o.Gone, BecomesInternalOnly: o.BecomesInternalOnly,
		Learned: control.Time{Time: o.Learned}, Pass: o.Pass,
		DomainController: o.Controller, USN: o.USN,
	}
}

// schemaSpelling returns the name of an attribute as the schema of Active Directory spells it.
// The store has it in lower case.
func schemaSpelling(attribute string) string {
	for _, name := range []string{"proxyAddresses", "uSNChanged", "targetAddress", "userPrincipalName",
		"otherMailbox", "msExchShadowProxyAddresses"} {
		if strings.EqualFold(name, attribute) {
			return name
		}
	}
	return attribute
}

func (b backend) Verify(context.Context) (control.Verified, error) {
	if err := b.maintenance.Verify(); err != nil {
		return control.Verified{}, err
	}
	t := b.store.Totals()
	return control.Verified{Addresses: t.Addresses, Objects: t.Objects, Digest: t.Digest}, nil
}

func (b backend) Sync(ctx context.Context, q control.SyncQuery, progress func(control.SyncEvent)) error {
	return b.syncs.Sync(ctx, q, progress)
}
