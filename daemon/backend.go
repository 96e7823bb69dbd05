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

// backend answers requests on the control socket.
type backend struct {
	*daemon
	started time.Time
	now     func() time.Time
}

var _ control.Backend = backend{}

func (b backend) Status(context.Context) (control.Status, error) {
	totals, health := b.store.Totals(), b.store.Health()
	host, _ := os.Hostname() // empty if unknown
	s := control.Status{
		Host: host, WhenStale: b.config.Load().WhenStale, WhenNotReady: b.config.Load().WhenNotReady,
		Version: b.version, Started: control.Time{Time: b.started},
		Addresses: totals.Addresses, Objects: totals.Objects, Unparsed: totals.Unparsed,
		Digest: totals.Digest, Domains: totals.Domains, Modes: map[string]string{},
		Decisions:   byName(b.server.Counters().Decisions()),
		WouldRefuse: byName(b.server.Counters().WouldRefuse()),
		Sessions:    b.server.Sessions(), Outcomes: b.domains.Outcomes(), DomainDecisions: b.domains.Counts(),
		Alarms:      append(b.canaries.Alarms(), storeAlarms(health)...),
		Directories: b.syncs.Directories(), StoreVerified: control.Time{Time: b.maintenance.verified()},
		StoreState: control.StoreState(health.State), StoreSetAside: health.SetAside,
	}
	if health.Err != nil {
		s.StoreError = health.Err.Error()
	}
	if !b.started.IsZero() { // zero for a stopped daemon, whose secrets this user may be unable to read
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
		state := ages.stateOf(tables.FileAge{File: f.File, Modified: f.Modified, Doubt: f.Doubt})
		s.AcceptFiles = append(s.AcceptFiles, acceptFileOf(f, state))
		if f.Unsaved != "" {
			s.Alarms = append(s.Alarms, "the last good copy of accept file "+f.File+" cannot be written to disk, so "+
				"the next start would judge the file by an older one, or by none: "+f.Unsaved)
		}
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
		Trouble: f.Trouble, Since: control.Time{Time: f.Since}, Doubt: f.Doubt,
		Unread: int64(f.Unread), Unmatched: int64(f.Unmatched), Suspicious: int64(f.Suspicious)}
	for _, p := range f.Problems {
		out.UnreadLines = append(out.UnreadLines, p.String())
	}
	for _, p := range f.Unjudged {
		out.UnmatchedLines = append(out.UnmatchedLines, p.String())
	}
	for _, p := range f.SuspiciousLines {
		out.SuspiciousLines = append(out.SuspiciousLines, p.String())
	}
	return out
}

// byName returns counters with the verdicts as strings.
func byName(counts map[policy.Verdict]int64) map[string]int64 {
	m := make(map[string]int64, len(counts))
	for verdict, n := range counts {
		m[string(verdict)] = n
	}
	return m
}

// lookupSender is the sender of lookups. Without a sender, a query would be evaluated as one for a bounce.
const lookupSender = "lookup"

func (b backend) Lookup(ctx context.Context, q control.LookupQuery) (control.LookupAnswer, error) {
	query, err := lookupQuery(q)
	if err != nil {
		return control.LookupAnswer{}, err
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

// lookupQuery returns the query of an operator for the policy.
func lookupQuery(q control.LookupQuery) (policy.Query, error) {
	query := policy.Query{Argument: q.Address, From: lookupSender, Lookup: true}
	if q.Client != "" {
		client, err := netip.ParseAddr(q.Client)
		if err != nil {
			return policy.Query{}, fmt.Errorf("client: expected an IP address, got %q", q.Client)
		}
		query.Client = client
	}
	if q.Authenticated {
		query.Authenticated = "lookup"
	}
	return query, nil
}

// subject returns the form of the address that was found. If none was found, it returns the whole address.
func subject(d policy.Decision) address.Address {
	switch {
	case !d.Match.IsZero():
		return d.Match
	case !d.JudgedAs.IsZero():
		return d.JudgedAs
	}
	return d.Address
}

// answerOf converts a decision into the answer to a lookup.
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
	if d.Asked && d.Freshness.File == "" { // otherwise the reason already names the file
		answer.Directory, answer.DirectoryState = d.Freshness.Directory, d.Freshness.State
	}
	return answer
}

// describe adds what the store has about an address. It ignores errors of the store, which are already part of
// the decision.
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

// addDetail adds the owners of an address and its journal rows to an answer.
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

// schemaSpelling returns the name of an attribute in the spelling of the Active Directory schema. The store
// keeps names in lower case.
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
