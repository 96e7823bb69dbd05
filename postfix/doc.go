// Package postfix reads the settings of Postfix and finds what is wrong between Postfix and
// the daemon.
//
// # Doctor
//
// [Examine] is a list of checks over [Settings], a description of the [Daemon], and a
// [Host]: its tables and socket, and a daemon that answers look-ups. [LocalHost] implements
// it with the commands of Postfix. A [Finding] says what is wrong, why it matters, and how
// to fix it. Nothing here changes a setting.
//
// Package table reads and writes tables in source form.
//
// # Concurrency
//
// All functions and methods may be called concurrently.
package postfix
