package mirror

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"rcpt-milter/address"
	"rcpt-milter/directory"
)

// Reasons to report a value that is intended as an SMTP address.
const (
	reasonNoType   = "it has no address type; write it as smtp:ADDRESS"
	reasonTwice    = "its address type appears twice; remove one of them"
	reasonMailto   = "mailto: begins a URL, not an address; remove it"
	reasonOtherTag = "what precedes its colon is not part of an address; remove it"
	reasonForeign  = "the type of another kind of address follows smtp:; remove one of the two"
	reasonMistyped = "its address type may be a mistake for smtp; write it as smtp:ADDRESS"
	reasonSeveral  = "more than one @ is outside of quotes; separate addresses by semicolons, or remove an @"
	reasonColon    = "it has a leading colon; remove it"
	reasonSpace    = "it has white space before its @; remove it"
	reasonAsterisk = "an asterisk matches no recipient; use accept in the configuration for a whole domain"
)

// foreignTypes are address types other than SMTP that may also occur in attributes other than proxyAddresses.
// Their values are not SMTP addresses.
var foreignTypes = []string{"ccmail", "ex", "eum", "fax", "gwise", "h323", "im", "meum", "ms", "notes",
	"rfax", "sip", "sips", "tel", "x400", "x500", "xmpp"}

// readValue returns the SMTP addresses in one value of an attribute, and a reason to correct the value. The
// reason is empty if there is none; a value may have both addresses and a reason. For a value of another
// address type, readValue returns neither. It is a pure function.
//
// It ignores white space around the value, its type and its addresses. It reads several addresses in one value
// if they are separated by semicolons, commas or white space.
func readValue(v directory.Value) ([]address.Address, string) {
	if text, typed := cutSMTP(v.Raw); (typed || strings.EqualFold(v.Attribute, "mail")) && isPlain(text) {
		if a, err := address.Parse(text); err == nil { // the common case
			return []address.Address{a}, ""
		}
	}
	text, reason := trimInvisible(v.Raw)
	kind, rest, typed := cutType(text)
	proxy := strings.EqualFold(v.Attribute, "proxyAddresses")
	smtp := typed && strings.EqualFold(kind, "smtp")
	switch {
	case smtp:
		text = rest
	case typed && strings.EqualFold(kind, "mailto"):
		return nil, reasonMailto
	case typed && proxy && isMistyped(kind) && hasMailbox(rest):
		return nil, reasonMistyped
	case typed && (proxy || isForeign(kind) || !strings.Contains(rest, "@")):
		return nil, ""
	case proxy && strings.ContainsAny(text, "@\uff20"):
		return nil, reasonNoType
	case proxy || text == "":
		return nil, ""
	}
	var list []address.Address
	for i, part := range splitAddresses(text) {
		found, why := readAddress(part, smtp && i == 0)
		list = append(list, found...)
		reason = cmp.Or(reason, why)
	}
	if r, found := address.FirstInvisible(v.Raw); found { // also between the parts of the value
		reason = cmp.Or(reason, invisibleReason(r))
	}
	return list, reason
}

// cutSMTP removes the type from a value that starts with it.
func cutSMTP(raw string) (string, bool) {
	const kind = "smtp:"
	if len(raw) < len(kind) || !strings.EqualFold(raw[:len(kind)], kind) {
		return raw, false
	}
	return raw[len(kind):], true
}

// isPlain reports whether a text has only letters, digits and a few signs around a single @, and a domain that
// is short enough for DNS. Such a text is an address without further checks.
func isPlain(text string) bool {
	local, domain, found := strings.Cut(text, "@")
	const longestLabel = 63
	return found && len(domain) <= longestLabel && isMadeOf(local, ".-_+'") && isMadeOf(domain, ".-_")
}

// isMadeOf reports whether a text has only ASCII letters, digits and the given signs.
func isMadeOf(text, signs string) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(signs, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// readAddress reads one address. afterType means that its type has been removed.
func readAddress(text string, afterType bool) ([]address.Address, string) {
	text, reason := trimInvisible(text)
	if kind, rest, typed := cutType(text); typed {
		switch {
		case strings.EqualFold(kind, "smtp") && afterType:
			return nil, reasonTwice
		case strings.EqualFold(kind, "smtp"):
			text, reason = trimInvisible(rest)
		case strings.EqualFold(kind, "mailto"):
			return nil, reasonMailto
		case afterType && isForeign(kind):
			reason = cmp.Or(reason, reasonForeign)
		case afterType && isMistyped(kind):
			reason = cmp.Or(reason, reasonMistyped)
		case !afterType && isForeign(kind):
			return nil, ""
		case !afterType:
			return nil, reasonOtherTag
		}
	}
	text, spaced := trimLocal(text)
	list, err := readMailbox(text)
	if err != nil {
		return nil, err.Error()
	}
	at := strings.LastIndexByte(text, '@')
	if r, found := address.FirstInvisible(text[:at]); found {
		return nil, invisibleReason(r)
	}
	if r, found := address.FirstInvisible(text[at:]); found { // IDNA would ignore it
		reason = invisibleReason(r)
	}
	if spaced {
		reason = cmp.Or(reason, reasonSpace)
	}
	reason = cmp.Or(reason, doubtfulLocal(text[:at], afterType))
	for _, a := range list {
		if err := address.CheckHost(strings.ReplaceAll(a.Domain(), "*", "")); err != nil {
			return nil, err.Error()
		}
		if strings.Contains(a.Domain(), "*") || a.Local() == "*" && afterType {
			return nil, reasonAsterisk
		}
		if a.Local() == "*" { // without a type, it is a valid local part, not a pattern of Exchange
			reason = reasonAsterisk
		}
		if r, found := address.FirstInvisible(a.String()); found {
			return nil, invisibleReason(r)
		}
	}
	return list, reason
}

// doubtfulLocal returns a reason if a local part, which is read literally, was probably not intended so.
// afterType means that the type of its address has been removed.
func doubtfulLocal(local string, afterType bool) string {
	switch {
	case address.CountUnquoted(local, '@') > 0:
		return reasonSeveral
	case strings.HasPrefix(local, ":"):
		return reasonColon
	case !afterType && address.CountUnquoted(local, ':') > 0:
		return reasonOtherTag
	}
	return ""
}

// trimLocal removes white space at the end of a local part. It reports whether there was any. It keeps an
// escaped space.
func trimLocal(text string) (string, bool) {
	at := strings.LastIndexByte(text, '@')
	local := strings.TrimRight(text[:max(at, 0)], " \t\r\n")
	if len(local) >= at || strings.HasSuffix(local, "\\") {
		return text, false
	}
	return local + text[at:], true
}

// readMailbox reads one address as it is written. It takes unquoted text that needs quotes literally, because
// mail for it arrives with quotes. It reads a backslash outside of quotes in both ways: as an escape, like an
// MTA, and literally.
func readMailbox(text string) ([]address.Address, error) {
	parsed, err := address.Parse(text)
	local, _, _ := strings.Cut(text, "@")
	if err == nil && (!strings.Contains(local, `\`) || strings.Contains(local, `"`)) {
		return []address.Address{parsed}, nil
	}
	literal, literalErr := address.ParseLiteral(text)
	quoted := strings.HasPrefix(text, `"`) || strings.Count(text, "@") != 1
	switch {
	case err == nil && (literalErr != nil || quoted):
		return []address.Address{parsed}, nil
	case err == nil:
		return []address.Address{parsed, literal}, nil
	case literalErr != nil || quoted:
		return nil, err
	}
	return []address.Address{literal}, nil
}

// splitAddresses returns the addresses in one value. If the parts between separators are not addresses but the
// whole value is one, it returns the whole value.
func splitAddresses(text string) []string {
	parts := fieldsOutsideQuotes(text, func(r rune) bool { return r == ';' || r == ',' })
	switch {
	case len(parts) == 0, len(parts) == 1 && strings.HasPrefix(parts[0], "@"):
		return splitWords(text)
	case haveAt(parts), address.CountUnquoted(text, '@') > 1: // also a single part, without the separator at its end
	default:
		if _, err := readMailbox(text); err == nil {
			return []string{text}
		}
	}
	var list []string
	for _, part := range parts {
		list = append(list, splitWords(part)...)
	}
	return list
}

// splitWords returns the words of a text if each of them may be an address, and otherwise the text.
func splitWords(text string) []string {
	if words := fieldsOutsideQuotes(text, unicode.IsSpace); haveAt(words) {
		return words
	}
	return []string{text}
}

// haveAt reports whether each part may be an address.
func haveAt(parts []string) bool {
	return len(parts) > 0 && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(part, "@") })
}

// fieldsOutsideQuotes splits a text at separators outside of quoted strings. It omits empty fields.
func fieldsOutsideQuotes(text string, separates func(rune) bool) []string {
	quoted, escaped := false, false
	return strings.FieldsFunc(text, func(r rune) bool {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		default:
			return !quoted && separates(r)
		}
		return false
	})
}

// cutType splits a value after its address type (MS-OXOABK 2.2.3.23: upper case marks the primary address). A
// type consists of letters, digits, dashes and underscores. cutType ignores white space around it.
func cutType(text string) (kind, rest string, typed bool) {
	kind, rest, typed = strings.Cut(text, ":")
	kind = strings.TrimFunc(kind, unicode.IsSpace)
	if !typed || !isType(kind) {
		return "", text, false
	}
	return kind, strings.TrimFunc(rest, unicode.IsSpace), true
}

// isType reports whether text may be an address type.
func isType(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	})
}

func isForeign(kind string) bool { return slices.Contains(foreignTypes, strings.ToLower(kind)) }

// isMistyped reports whether a type is probably intended as smtp: one letter is missing, added, replaced, or
// swapped with the next. A letter added in front or behind makes a type of its own, as administrators use it to
// disable an address, unless it only repeats a letter.
func isMistyped(kind string) bool {
	const smtp = "smtp"
	kind = strings.ToLower(kind)
	switch kind {
	case "mail", "email", "e-mail", "smtps":
		return true
	case smtp:
		return false
	}
	same := 0 // length of the common beginning
	for same < min(len(kind), len(smtp)) && kind[same] == smtp[same] {
		same++
	}
	is, want := kind[same:], smtp[same:]
	for is != "" && want != "" && is[len(is)-1] == want[len(want)-1] {
		is, want = is[:len(is)-1], want[:len(want)-1]
	}
	switch {
	case len(is) == 1 && want == "":
		return 0 < same && same < len(smtp) || kind == smtp+smtp[len(smtp)-1:]
	case len(is) == 2 && len(want) == 2:
		return is[0] == want[1] && is[1] == want[0]
	}
	return len(want) == 1 && len(is) <= 1
}

// hasMailbox reports whether a text contains an address.
func hasMailbox(text string) bool {
	return slices.ContainsFunc(splitAddresses(text), func(part string) bool {
		found, _ := readAddress(part, true)
		return len(found) > 0
	})
}

// trimInvisible removes white space and invisible characters from both ends. It returns a reason if it removed
// an invisible character.
func trimInvisible(text string) (string, string) {
	trimmed := strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || address.Invisible(r) })
	at := strings.Index(text, trimmed)
	for _, r := range text[:at] + text[at+len(trimmed):] {
		if address.Invisible(r) {
			return trimmed, invisibleReason(r)
		}
	}
	return trimmed, ""
}

func invisibleReason(r rune) string {
	return fmt.Sprintf("it contains the invisible character %U; remove it", r)
}
