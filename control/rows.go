package control

import (
	"maps"
	"slices"

	"rcpt-milter/policy"
)

// VerdictRow counts the recipients of a verdict.
type VerdictRow struct {
	Verdict     string
	Outcome     Outcome
	Recipients  int64
	WouldRefuse int64 // of these, accepted only because the mode is report
}

// VerdictRows returns the verdicts that occurred, in the order of the decision table. Those
// of another version of the daemon follow.
func (s Status) VerdictRows() []VerdictRow {
	var rows []VerdictRow
	add := func(verdict string) {
		if n := s.Decisions[verdict]; n > 0 {
			rows = append(rows, VerdictRow{verdict, s.outcomeOf(policy.Verdict(verdict)), n, s.WouldRefuse[verdict]})
		}
	}
	named := map[string]bool{}
	for _, v := range policy.Verdicts() {
		named[string(v)] = true
		add(string(v))
	}
	for _, verdict := range slices.Sorted(maps.Keys(s.Decisions)) {
		if !named[verdict] {
			add(verdict)
		}
	}
	return rows
}
