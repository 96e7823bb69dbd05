// Package postfix knows Postfix's own formats: tables in source form, which it reads and
// writes, and settings as postconf prints them, in which it finds what is wrong between
// Postfix and the daemon.
//
// # Tables
//
// A [Table] is what a file in the source format of postmap(1) names: mailboxes
// (user@domain) and whole domains (@domain), in the canonical form of package address.
// It is read as postmap reads it, so that one file can serve both, but for two things:
// a key without a value counts too, because a plain list of addresses is what people
// have, and no line spoils another. What cannot be read is a [Problem] with its line.
//
// A table is compact: its text and 12 octets an entry. It never changes once it is made.
//
// # Files that are watched
//
// [Tables] keeps the tables of several files in step with them. Whatever happens to a
// file, the last good copy stays in force: a list that vanished, or that somebody is
// writing at the moment, must not become a list of nobody.
//
// # Doctor
//
// [Examine] is a list of checks over [Settings], what it has to know of the daemon, and a
// [World]: the tables and the socket of the host, and the daemon that can be asked. [Host]
// is the world of a real Postfix, asked through its own commands. A [Finding] says what is
// wrong, why that matters, and what fixes it; nothing here changes anything.
//
// # What may run concurrently
//
// Everything. Questions take no lock.
package postfix
