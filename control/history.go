package control

// Judged counts recipients by what they were told.
type Judged struct {
	Accepted   int64
	LetThrough int64 // that mode report kept from being refused or put off
	PutOff     int64 // with a temporary reply
	Refused    int64
}

// Total is all of them.
func (j Judged) Total() int64 { return j.Accepted + j.LetThrough + j.PutOff + j.Refused }

// Plus returns the sum of both.
func (j Judged) Plus(o Judged) Judged {
	return Judged{j.Accepted + o.Accepted, j.LetThrough + o.LetThrough, j.PutOff + o.PutOff, j.Refused + o.Refused}
}

// Minus returns the difference of both.
func (j Judged) Minus(o Judged) Judged {
	return j.Plus(Judged{-o.Accepted, -o.LetThrough, -o.PutOff, -o.Refused})
}

// Told is what a verdict leads to in mode enforce.
type Told string

const (
	ToldAccepted Told = "accepted"
	ToldPutOff   Told = "put off" // with a temporary reply
	ToldRefused  Told = "refused"
)

// verdictTold is what each verdict leads to, in the order of the table by which
// recipients are judged. With when_stale or when_not_ready other than tempfail it is
// wrong about those two.
var verdictTold = []struct {
	verdict string
	told    Told
}{
	{"exempt", ToldAccepted}, {"always", ToldAccepted}, {"not-ours", ToldAccepted}, {"listed", ToldAccepted}, {"refused", ToldRefused},
	{"known", ToldAccepted}, {"restricted", ToldRefused}, {"not-ready", ToldPutOff}, {"in-grace", ToldPutOff}, {"stale", ToldPutOff},
	{"confirmed", ToldAccepted}, {"harvest-limited", ToldPutOff}, {"unknown", ToldRefused}, {"error", ToldPutOff},
}

// Verdicts lists the verdicts in the order of that table.
func Verdicts() []string {
	var all []string
	for _, v := range verdictTold {
		all = append(all, v.verdict)
	}
	return all
}

// ToldBy is what a verdict leads to; one that this version does not know counts as a
// refusal.
func ToldBy(verdict string) Told {
	for _, v := range verdictTold {
		if v.verdict == verdict {
			return v.told
		}
	}
	return ToldRefused
}

// JudgedOf sorts the counters of a status into what recipients were told.
func JudgedOf(s Status) Judged { return judged(s.Decisions, s.WouldRefuse) }

// judged sorts counters by verdict into what recipients were told.
func judged(decisions, wouldRefuse map[string]int64) (j Judged) {
	for verdict, n := range decisions {
		let := wouldRefuse[verdict]
		j.LetThrough += let
		switch ToldBy(verdict) {
		case ToldAccepted:
			j.Accepted += n - let
		case ToldPutOff:
			j.PutOff += n - let
		default:
			j.Refused += n - let
		}
	}
	return j
}
