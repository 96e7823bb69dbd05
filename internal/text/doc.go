// Package text puts values into words: counts, durations and ages, and text from elsewhere in
// a form that is safe to print. It is the only place that does, so logs, errors, commands and
// the status page read alike. It also reads durations and times that operators write.
package text
