// Package policy decides about the recipient of one RCPT TO command.
//
// [Policy.Decide] goes through the decision table, whose rows are in [Rows] and in
// docs/flow.md: the first row that matches answers. A [Decision] has a [Verdict], the
// [Reply] to the MTA, and the reason. [Verdict.Outcome] is the one place that says which
// verdicts accept, defer and reject.
//
// # Unknown and "cannot tell"
//
// The two are different from the index up to the reply. Only rows 5, 6 and 12 reject with
// 550, and row 9 if when_stale is refuse. An internal error is 451 with the verdict error.
// A recipient that is not readable as an address is row 12 in a domain of ours, so odd syntax
// does not bypass the index. The mode of the domain is applied last: in mode report
// every reply is continue, and the decision has the reply of mode enforce.
//
// An enforced domain is not ready if neither the index nor a list has an address of it. It is
// misspelt in the configuration, or no directory of it is read; every recipient in it would be
// unknown. Patterns do not count, because they name no address. In mode report, which rejects
// nothing, such a domain shows its recipients as unknown.
//
// # Extensions and aliases
//
// With RecipientDelimiter, rows 4 to 6, 8 and 10 try the whole address and then the one
// without its extension. The first that matches carries its restriction. An entry in refuse
// holds for every extension that accept does not name.
//
// With StripPrefixes, a tagged recipient is then tried without its tag, in both forms. This can only
// make it known: an entry in refuse that names a form without the tag does not reject the tagged
// address, but it is not known by that form.
//
// A recipient in a domain alias goes through rows 4 to 12 as written, and as the same local
// part in each target domain. The most lenient decision counts. An entry in refuse that names
// the recipient as written is final. The mode is that of the domain as written. Row 10 waits
// until no form is accepted without it.
//
// # Internal-only recipients
//
// An internal-only recipient is known to clients that have logged in and to those of the
// inside networks. For other clients it looks like an unknown one, with the same replies from
// rows 7, 9, 11 and 12. A recipient that becomes internal-only is lost to these clients, so row 8
// holds for it as for a removed one. Rows 7 and 9 are also needed because an index that cannot be trusted
// may hold a restriction that was lifted, or that is not that of every owner.
//
// # What outsiders can learn
//
// All recipients that get 550 cost the same lookups and searches, and are charged alike: those that
// are unknown, internal-only, removed longer than the removal grace ago, or in refuse. So the reply,
// the time and the harvest limit do not tell which of them exist or have existed. While an index
// cannot be trusted, an entry in refuse still gets 550 where an unknown recipient gets 451.
//
// # Concurrency
//
// A Policy is immutable, and all its methods may be called concurrently. Decide takes no
// lock; the index, the tables, the harvest limit and the confirmer may. It waits for nothing
// but the search of row 10.
//
// # Standards
//
//	RFC 5321   SMTP: 4.5.1 postmaster, 4.5.3.1 sizes, 7.8 rejecting clients
//	RFC 3463   enhanced status codes: 5.1.1, 4.1.1, 4.3.0, 4.7.0, 4.7.1
//	RFC 2142   abuse, always accepted by default
package policy
