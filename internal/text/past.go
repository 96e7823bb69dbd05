package text

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// localTimes are the layouts of a time without a zone, which is local.
var localTimes = []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02"}

// ParseMoment reads a time that an operator wrote: RFC 3339, local time in the zone of now, or
// a duration before now. It reports whether the text is one of them.
func ParseMoment(text string, now time.Time) (time.Time, bool) {
	if d, ok := ParseDuration(text); ok {
		return now.Add(-d), true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	for _, layout := range localTimes {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// ParseDuration reads the syntax of time.ParseDuration without a sign, with optional whole
// days in front: 30d, 1d12h. It returns false for other text and above 290 years.
func ParseDuration(text string) (time.Duration, bool) {
	const day = 24 * time.Hour
	days, rest, hasDays := strings.Cut(text, "d")
	if !hasDays {
		days, rest = "", text
	}
	var d time.Duration
	if hasDays {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, false
		}
		d = time.Duration(n) * day
	}
	if rest == "" {
		return d, hasDays
	}
	if rest[0] == '-' || rest[0] == '+' {
		return 0, false
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more > math.MaxInt64-d {
		return 0, false
	}
	return d + more, true
}
