package policy

// Row describes one row of the decision table. Decide implements the rows, in decide.go.
type Row struct {
	Number    int
	Condition string
	Reply     string // with the default settings
	Verdicts  []Verdict
}

// Rows returns the decision table as text, like docs/flow.md. An internal-only recipient whose sender may not write to
// it continues from row 6 to row 12, which reports it with row 6.
func Rows() []Row {
	return []Row{
		{1, "the client is exempt", "continue", []Verdict{VerdictExempt}},
		{2, "bare postmaster, without a domain", "continue", []Verdict{VerdictAlways}},
		{3, "the domain is not ours, or its mode is pass", "continue", []Verdict{VerdictNotOurs}},
		{4, "the local part is always accepted", "continue", []Verdict{VerdictAlways}},
		{5, "the recipient is in a list", "continue or 550 5.1.1", []Verdict{VerdictAllowlisted, VerdictDenylisted}},
		{6, "the recipient is in the index", "continue or 550 5.1.1", []Verdict{VerdictKnown, VerdictRestricted}},
		{7, "the index is not ready for the domain", "451 4.3.0", []Verdict{VerdictNotReady}},
		{8, "removed, or lost to outside senders, less than the removal grace ago", "450 4.1.1",
			[]Verdict{VerdictInGrace}},
		{9, "the last good pass is too old", "451 4.3.0", []Verdict{VerdictStale}},
		{10, "a search in the directory finds the recipient", "continue", []Verdict{VerdictConfirmed}},
		{11, "the client's network is over its harvest limit", "421 4.7.0", []Verdict{VerdictHarvestLimited}},
		{12, "otherwise", "550 5.1.1", []Verdict{VerdictUnknown}},
	}
}
