package address

import "strings"

// WithoutExtension gives the mailbox that a stands for where recipients may carry an
// extension, as in user+extension@example.com; false where a has none. Delimiters are
// the characters that may begin one, all of them ASCII.
//
// It splits what Postfix splits (split_addr(3)): the local part without its quotes, at
// the first delimiter, and never in front of everything. Its reserved names stay
// whole, and where - is a delimiter, so do the names by which mailing lists are run
// (owner_request_special, on by default).
func (a Address) WithoutExtension(delimiters string) (Address, bool) {
	local := a.Local()
	if !strings.ContainsAny(local, delimiters) {
		return Address{}, false
	}
	content, err := unquote(local)
	if err != nil || isReserved(content, delimiters) {
		return Address{}, false
	}
	at := strings.IndexAny(content, delimiters)
	if at <= 0 {
		return Address{}, false
	}
	return Address{quote(content[:at]) + "@" + a.Domain()}, true
}

// isReserved reports whether a local part is split by nobody. All of it is folded.
func isReserved(content, delimiters string) bool {
	switch content {
	case "postmaster", "mailer-daemon", "double-bounce":
		return true
	}
	return strings.Contains(delimiters, "-") &&
		(strings.HasPrefix(content, "owner-") || len(content) > len("-request") && strings.HasSuffix(content, "-request"))
}
