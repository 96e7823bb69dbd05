package text

import (
	"strconv"
	"strings"
	"time"
)

// Count returns a number with its noun: "1 object", "1,234 objects".
func Count[N int | int64](n N, one, many string) string { return CountBy(n, one, many, ",") }

// CountBy is Count with a separator at every thousand.
func CountBy[N int | int64](n N, one, many, separator string) string {
	if n == 1 {
		return "1 " + one
	}
	return NumberBy(n, separator) + " " + many
}

// Number returns a number with a comma at every thousand.
func Number[N int | int64](n N) string { return NumberBy(n, ",") }

// NumberBy returns a number with a separator at every thousand.
func NumberBy[N int | int64](n N, separator string) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + separator + digits[i:]
	}
	return digits
}

// List returns the first words of a list as part of a sentence, and the number of the rest:
// "a, b and c", "a, b and 3 more".
func List(words []string, most int) string {
	switch n := len(words); {
	case n > most:
		return strings.Join(words[:most], ", ") + " and " + strconv.Itoa(n-most) + " more"
	case n < 2:
		return strings.Join(words, "")
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// Duration returns a duration in the largest unit of which there are two or more:
// "90 minutes", "2 hours".
func Duration(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		if n := int64(d / unit.d); n >= 2 || n == 1 && unit.d == time.Second {
			return Count(n, unit.name, unit.name+"s")
		}
	}
	return "less than a second"
}

// Age returns the distance between a time and now: "2 hours ago", "in 5 minutes".
func Age(now, t time.Time) string {
	if t.After(now) {
		return "in " + Duration(t.Sub(now))
	}
	return Duration(now.Sub(t)) + " ago"
}

// Moment returns a time to the second, in the time zone of now: "2026-01-31 15:04:05 CET".
func Moment(now, t time.Time) string {
	return t.In(now.Location()).Format("2006-01-02 15:04:05 MST")
}
