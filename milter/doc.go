// Package milter answers the RCPT TO commands of a mail transfer agent over the
// milter protocol: a policy that decides, a session that asks it, and a server that
// carries sessions over unix and TCP sockets.
//
// # The decision
//
// [Policy.Decide] goes through this table from the top; the first row that matches
// answers. "Ours" is a domain that the configuration names, exactly or as the most
// specific of its parents (".example.org" stands for all sub-domains).
//
//	row  condition                                   reply      verdict
//	 1   the client is exempt                        continue   exempt
//	 2   bare postmaster, without a domain           continue   always
//	 3   the domain is not ours, or its mode is pass continue   not-ours
//	 4   the local part is always accepted           continue   always
//	 5   the lists: accept, refuse, accept_files,    continue   listed
//	     accept_patterns, @domain in accept          550 5.1.1  refused
//	 6   in the index                                continue   known
//	     and restricted to inside senders            550 5.1.1  restricted
//	 7   the directory has not been read in full     451 4.3.0  not-ready
//	     or the domain is enforced and has no address 451 4.3.0 not-ready
//	 8   removed less than the removal grace ago     450 4.1.1  in-grace
//	     or restricted to inside senders since then  450 4.1.1  in-grace
//	 9   the directory was last read too long ago    451 4.3.0  stale
//	10   a search in the directory finds it          continue   confirmed
//	11   the client's network guesses addresses      421 4.7.0  harvest-limited
//	12   otherwise                                   550 5.1.1  unknown
//
// Where recipients may carry an extension, rows 4 to 6, 8 and 10 try the whole address
// and then the one without it; the first of the two that matches carries its
// restriction. An entry in refuse holds for every extension that accept does not name.
//
// A recipient in a domain alias goes through rows 4 to 12 as it is written, and as the same
// local part in each domain that its own is an alias of. The most lenient decision counts;
// an entry in refuse that names it as written is final. The mode is that of the domain as
// written. Row 10 waits until no form of it is accepted without.
//
// A recipient restricted to inside senders is known to clients that have logged in and to
// those of the inside networks, and to others looks like any that is unknown: the same text,
// and before it the same rows 7, 8, 9 and 11. One that becomes restricted is removed for
// these others: row 8 counts from the time when they lost it. Rows 7 and 9 are needed for another reason as well: while the index
// cannot be trusted, the restriction may be lifted, or may not be that of every owner.
//
// An enforced domain of which the index has no address at all, and no list names one, is
// misspelt in the configuration, or lives in a directory that nothing reads: "unknown" would
// be said of everybody there. Patterns do not count, because they name no address. In mode
// report, where nothing is refused, such a domain shows its recipients as unknown.
//
// "Not there" and "cannot tell" are different things all the way: only rows 5, 6 and 12
// (and row 9, where the configuration asks for it) say 550, and whatever fails inside is
// 451 with the verdict error. An address that cannot be read at all is row 12 in a
// domain of ours, so that odd syntax is no way around the index. The mode of the
// domain is applied last: in mode report everything is answered continue, and the
// decision carries the reply it would have been.
//
// # The harvest limit
//
// [Harvest] counts, for the network of each client and over all its sessions, the
// different addresses that it asked about and that never existed, and all that it asked
// about. Over a number of the former, and a ratio of the two, the network is limited for
// a time, during which nothing is counted; then it begins anew. An address that somebody
// had once, one in a domain of mode report, and the recipients of a null sender are
// nobody's guess. [HarvestMemory] takes at most [HarvestOctets]: of a network it keeps a
// sample of a bounded size, and where there are too many networks it forgets those that
// asked about the fewest addresses.
//
// # What may run concurrently
//
// A Policy never changes; [Server.SetPolicy] swaps it under running sessions. Between
// a RCPT and its reply no lock is taken that sessions share, apart from what the
// index, the table, the harvest limit, the observer and the log handler take, and
// nothing is waited for but a search by which a refusal is to be confirmed.
//
// # Standards
//
//	RFC 5321   SMTP: 4.5.1 postmaster, 4.5.3.1 sizes, 7.8 refusing clients
//	RFC 3463   enhanced status codes: 5.1.1, 4.1.1, 4.3.0, 4.7.0, 4.7.1
//	RFC 2142   abuse, always accepted by default
//	milter     the protocol as libmilter and Postfix (milter8.c) speak it
package milter
