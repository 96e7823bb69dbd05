// Package testenv is the test harness: a mail edge in small, made of the real parts.
//
// Four containers of docker-compose.yml stand for the world around one daemon:
// dc1 (a Samba AD domain controller), mx (Debian's Postfix with the milter in
// smtpd_milters), rcpt-milter (the daemon of this checkout) and sink (stands for
// Exchange and keeps what arrives). A fifth, dc2 (another domain controller of the same
// domain), joins when a test asks for it. The package drives that file through
// whichever compose command the machine has, and gives tests what they need: LDAP
// changes, SMTP dialogues, the Postfix log, the sink's messages, and hands to stop,
// pause and kill the parts.
//
// # Who owns a harness
//
// A checkout has at most one harness; its compose project is named after a hash of
// the checkout's path. Two file locks below .testenv/ order its users: the owner lock
// is held by whoever started the harness until it is taken down again, the turn lock
// by the one process that uses it. `cmd/testenv test` owns a harness and lets the
// test packages take turns; a test package run by hand owns one for as long as it
// runs, unless `cmd/testenv up` left one running.
//
// Taking down removes containers, networks and volumes. Images stay, because
// building them takes minutes; `cmd/testenv clean` removes them. A run that was
// killed leaves containers behind; the next one removes them before it starts.
//
// # What needs no engine
//
// Session and Dialogue (SMTP as text) and Proxy (a TCP path that can fail) work
// without Docker and may be used by fast tests.
package testenv
