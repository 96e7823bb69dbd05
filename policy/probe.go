package policy

import (
	"maps"
	"slices"
	"strings"
)

// probeLocal is the local part of the recipient of a test. No mailbox should have it; if one has it, the test only
// ends at row 6.
const probeLocal = "rcpt-milter-watchdog"

// ProbeQuery returns a query that tests whether recipients are answered. It is about an address that does not exist in
// a domain that is judged, so its decision passes all rows, but without a search of row 10. If no domain is judged, it
// is about a domain that is not ours.
func (p *Policy) ProbeQuery() Query {
	domain := "watchdog.invalid"
	for _, ours := range slices.Sorted(maps.Keys(p.domains)) {
		if p.domains[ours] == ModePass {
			continue
		}
		if domain = ours; strings.HasPrefix(ours, ".") {
			domain = "watchdog" + ours
		}
		if p.mode(domain) != ModePass && !p.lists.domains[domain] {
			break
		}
	}
	return Query{Recipient: probeLocal + "@" + domain, From: "watchdog@watchdog.invalid", Nth: 1, NoSearch: true}
}
