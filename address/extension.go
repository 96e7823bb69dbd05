package address

import "strings"

// WithoutExtension returns the mailbox of an address with an extension, such as
// user+extension@example.com. It returns false if a has none. Delimiters are the ASCII
// characters that may begin an extension.
//
// It splits like Postfix (split_addr(3)): the local part without its quotes, at the first
// delimiter that is not its first character. Reserved names are not split. If - is a
// delimiter, names of mailing list management are not split either
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

// isReserved reports whether a folded local part is never split.
func isReserved(content, delimiters string) bool {
	switch content {
	case "postmaster", "mailer-daemon", "double-bounce":
		return true
	}
	return strings.Contains(delimiters, "-") &&
		(strings.HasPrefix(content, "owner-") ||
			len(content) > len("-request") && strings.HasSuffix(content, "-request"))
}
