// Package policy decides about the recipient of one RCPT TO command.
//
// [Policy.Decide] evaluates the decision table, whose rows are in [Rows] and in docs/flow.md. The first row
// that matches answers. A [Decision] has a [Verdict], the [Reply] to the MTA, and the reason. [Verdict.Outcome]
// alone defines which verdicts accept, defer and reject.
//
// # Unknown and "cannot tell"
//
// "Unknown" and "cannot tell" are different values from the index to the reply. Only rows 5, 6 and 12 reject
// with 550, and row 9 if when_stale is refuse. An internal error is 451 with the verdict error. A recipient
// that cannot be parsed as an address reaches row 12 if its domain is ours, so odd syntax does not bypass the
// index. The mode of the domain is applied last: in mode report every reply is continue, and the decision
// records the reply of mode enforce.
//
// An enforced domain is not ready if neither the index nor a list has an address in it. Either its name is
// misspelt in the configuration, or none of its directories is read; every recipient in it would be unknown.
// Patterns do not count, because they name no address. In mode report, which rejects nothing, the recipients of
// such a domain are reported as unknown.
//
// # Extensions and aliases
//
// With RecipientDelimiter, rows 4 to 6, 8 and 10 try the whole address and then the address without its
// extension. The first form that matches counts, with its restriction. An entry in refuse also matches all
// extensions of its address, except those in accept.
//
// With StripPrefixes, a tagged recipient is then also tried without its tag, in both forms. This can only make
// it known. If an entry in refuse matches a form without the tag, the tagged address is not rejected by that
// entry, but that form does not make it known either.
//
// A recipient in a domain alias is evaluated by rows 4 to 12 as written, and as the same local part in each
// target domain. The most lenient decision counts. An entry in refuse that matches the recipient as written is
// final. The mode is that of the domain as written. Row 10 searches only if no form is accepted without a
// search.
//
// # Internal-only recipients
//
// An internal-only recipient is known to authenticated clients and to clients in the inside networks. For other
// clients it looks unknown, with the same replies from rows 7, 9, 11 and 12. When a recipient becomes
// internal-only, it is removed for these clients, so row 8 applies. Rows 7 and 9 are needed as well: an index
// that cannot be trusted may have a restriction that was lifted, or that does not hold for every owner.
//
// # What outsiders can learn
//
// All recipients that get 550 cost the same lookups and searches and are charged alike, whether they are
// unknown, internal-only, in refuse, or were removed longer than the grace period ago. The reply, the time and the
// harvest limit therefore do not reveal which of them exist or have existed. One difference remains: while an
// index cannot be trusted, an entry in refuse gets 550 and an unknown recipient gets 451.
//
// # Concurrency
//
// A Policy is immutable, and its methods are safe for concurrent use. Decide takes no lock; the index, the
// tables, the harvest limit and the confirmer may. It waits only for the search of row 10.
//
// # Standards
//
//	RFC 5321   SMTP: 4.5.1 postmaster, 4.5.3.1 sizes, 7.8 rejecting clients
//	RFC 3463   enhanced status codes: 5.1.1, 4.1.1, 4.3.0, 4.7.0, 4.7.1
//	RFC 2142   abuse, always accepted by default
package policy
