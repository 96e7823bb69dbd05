// Package testenv is the test harness: a small mail edge made of real parts.
//
// Four containers of docker-compose.yml surround one daemon: dc1 (a Samba AD domain
// controller), mx (Debian's Postfix with the milter in smtpd_milters), rcpt-milter (the daemon
// of this checkout) and sink (in place of Exchange; it stores the mail it gets). A fifth, dc2
// (another domain controller of the same domain), starts when a test needs it. The package runs
// that file with the machine's compose command. It offers tests LDAP changes, SMTP dialogues,
// the Postfix log and the sink's messages, and stops, pauses and kills the parts.
//
// # Ownership
//
// A checkout has at most one harness; its compose project is named after a hash of the
// checkout's path. Two file locks below .testenv/ coordinate its users. The process that starts
// the harness holds the owner lock until it takes the harness down. The process that uses the
// harness holds the turn lock. `cmd/testenv test` owns a harness and lets the test packages take
// turns. A test package run by hand owns one while it runs, unless `cmd/testenv up` left one
// running.
//
// Taking down removes containers, networks and volumes. Images stay, because building them takes
// minutes; `cmd/testenv clean` removes them. A killed run leaves containers behind; the next run
// removes them before it starts.
//
// # Without an engine
//
// Session and Dialogue (SMTP as text) and Proxy (a TCP path that can fail) work without Docker;
// fast tests may use them.
package testenv
