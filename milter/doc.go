// Package milter answers the RCPT TO commands of a mail transfer agent over the milter protocol. A [Server]
// accepts connections. A session turns each RCPT with its macros into a policy.Query, which the policy decides.
// The session counts and logs the decision and charges the client for it. Then the reply is sent.
//
// [Server.SetPolicy] replaces the policy of running sessions too. Between a RCPT and its reply, a session takes
// no lock that it shares with others, except in the index, the tables, the harvest limit, the observer and the
// log handler.
//
// The protocol is that of libmilter and of Postfix (milter8.c), version 2 and later.
package milter
