package postfix

import (
	"slices"
	"strings"

	"rcpt-milter/internal/text"
)

// probing is the restriction that verifies recipients by address probes.
const probing = "reject_unverified_recipient"

// restrictionLists are the parameters that may restrict a recipient (SMTPD_ACCESS_README).
var restrictionLists = []string{"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions",
	"smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_data_restrictions",
	"smtpd_end_of_data_restrictions"}

// checkProbing reports that Postfix verifies recipients by address probes.
func (e *examination) checkProbing() {
	var parameters, fix []string
	probes := e.those(func(l listener) bool {
		found := false
		for _, parameter := range restrictionLists {
			if l.role != outside || !verifies(e.Value(l.Service, parameter)) {
				continue
			}
			found = true
			if command := e.withoutProbing(l, parameter); !slices.Contains(fix, command) {
				fix = append(fix, command)
			}
			if !slices.Contains(parameters, parameter) {
				parameters = append(parameters, parameter)
			}
		}
		return found
	})
	if len(probes) == 0 {
		return
	}
	verb := " also verifies"
	if len(probes) > 1 {
		verb = " also verify"
	}
	e.find("probing", Note, names(probes)+verb+" recipients by address probes ("+probing+" in "+
		text.List(parameters, len(parameters))+")",
		"Postfix asks the next server as well. It remembers a rejection for hours, so a new recipient "+
			"gets no mail in that time. Drop it when all domains are in mode enforce.", fix...)
}

// withoutProbing returns how to remove the address probes from a list of restrictions of a listener.
func (e *examination) withoutProbing(l listener, parameter string) string {
	value := dropProbing(e.raw(l.Service, parameter))
	if verifies(expand(value, func(name string) string { return e.raw(l.Service, name) })) { // by a $name
		value = dropProbing(e.Value(l.Service, parameter))
	}
	if _, overridden := l.Overrides[parameter]; overridden {
		if value = strings.Join(list(value), ","); strings.ContainsAny(value, space) { // in braces
			return "in master.cf: remove " + probing + " from " + parameter + " of " + l.String()
		}
	}
	return e.setFor(l, parameter, value)
}

// verifies reports whether a list of restrictions rejects recipients by address probes.
func verifies(value string) bool { return dropProbing(value) != value }

// dropProbing removes the address probes that reject from a list of restrictions. One after warn_if_reject
// rejects nothing and stays, because warn_if_reject would apply to the next restriction.
func dropProbing(value string) string {
	const separators = space + ","
	var kept strings.Builder
	rest, last := value, ""
	for _, word := range list(value) {
		at := len(rest) - len(strings.TrimLeft(rest, separators))
		if strings.EqualFold(word, probing) && !strings.EqualFold(last, "warn_if_reject") {
			if rest = rest[at+len(word):]; kept.Len() == 0 {
				rest = strings.TrimLeft(rest, separators)
			}
			continue
		}
		kept.WriteString(rest[:at+len(word)])
		rest, last = rest[at+len(word):], word
	}
	return kept.String() + rest
}
