package mirror

import (
	"time"

	"rcpt-milter/policy"
)

// isOver reports whether a pause after a time is over. If the clock does not tell, it is.
func isOver(at, now time.Time, pause time.Duration) bool {
	age, known := policy.Elapsed(at, now)
	return !known || age >= pause
}
