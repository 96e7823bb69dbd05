package address

import "strings"

// maxTag is the longest tag of WithoutTag in bytes. That of BATV's prvs has 10.
const maxTag = 64

// WithoutTag returns the mailbox of a tagged address, such as user@example.com for
// prvs=0123abcdef=user@example.com. It returns false if a has no such tag. The prefix is in lower
// case and ends with one or more "=". After it come the tag, 1 to 64 ASCII letters, digits and
// "-+/._", as many "=" as the prefix ends with, and the mailbox. This is the form of Bounce
// Address Tag Validation (draft-levine-smtp-batv-01). The tag is not verified. One tag is removed.
func (a Address) WithoutTag(prefix string) (Address, bool) {
	separator := prefix[len(strings.TrimRight(prefix, "=")):]
	if separator == "" || a.IsZero() {
		return Address{}, false
	}
	content, err := unquote(a.Local())
	if err != nil {
		return Address{}, false
	}
	rest, tagged := strings.CutPrefix(content, prefix)
	tag, mailbox, closed := strings.Cut(rest, separator)
	if !tagged || !closed || tag == "" || len(tag) > maxTag || strings.ContainsFunc(tag, notInTag) ||
		mailbox == "" || mailbox[0] == '=' {
		return Address{}, false
	}
	return Address{quote(mailbox) + "@" + a.Domain()}, true
}

// notInTag matches characters that no tag has.
func notInTag(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-+/._", r))
}
