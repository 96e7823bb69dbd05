package control

import (
	"cmp"
	"fmt"
	"slices"

	"rcpt-milter/policy"
)

// UnknownReply is what an unknown recipient of an enforced domain gets.
type UnknownReply string

// The replies to unknown recipients.
const (
	UnknownRejected UnknownReply = "550"
	UnknownDeferred UnknownReply = "451"
	UnknownAccepted UnknownReply = "accepted"
)

// UnknownText says in a sentence what unknown recipients get because of a state, with the key that sets
// it. It is empty for a state in which the index can tell.
func (s Status) UnknownText(state State) string {
	key, value := "when_not_ready", s.WhenNotReady
	switch state {
	case Fresh, Late, Retired:
		return ""
	case Stale:
		key, value = "when_stale", s.WhenStale
		if value == policy.FallbackRefuse && slices.ContainsFunc(s.AcceptFiles, AcceptFile.inDoubt) {
			return "unknown recipients get 451 now, because an accept file may lack entries"
		}
	}
	reply := map[UnknownReply]string{UnknownRejected: "still get 550", UnknownDeferred: "get 451 now",
		UnknownAccepted: "are accepted now"}[UnknownIn(state, s.WhenStale, s.WhenNotReady)]
	return fmt.Sprintf("unknown recipients %s (%s: %s)", reply, key, cmp.Or(value, policy.FallbackTempfail))
}

// UnknownIn returns what unknown recipients of an enforced domain in a state get, with the values of
// when_stale and when_not_ready. An empty value means tempfail.
func UnknownIn(s State, whenStale, whenNotReady policy.Fallback) UnknownReply {
	var f policy.Fallback
	switch s {
	case Fresh, Late, Retired:
		return UnknownRejected
	case Stale:
		f = whenStale
	default:
		f = whenNotReady
	}
	switch f {
	case policy.FallbackRefuse:
		return UnknownRejected
	case policy.FallbackAccept:
		return UnknownAccepted
	}
	return UnknownDeferred
}
