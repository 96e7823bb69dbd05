package config

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a duration in the syntax of the file, for command lines. It reports
// whether it is valid.
func ParseDuration(text string) (time.Duration, bool) { return parseDuration(text) }

// parseDuration reads the syntax of time.ParseDuration without a sign, with optional whole
// days in front: 30d, 1d12h. It returns false for other text and above 290 years.
func parseDuration(text string) (time.Duration, bool) {
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

// formatDuration formats a duration without zero units: 15m, not 15m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// sizes are the units of parseSize.
var sizes = map[string]uint64{
	"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// parseSize reads a whole number with a unit, such as 256MiB or "256 MiB". It returns false
// for other text and for more than 64 bits.
func parseSize(text string) (uint64, bool) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	n, err := strconv.ParseUint(text[:digits], 10, 64)
	unit, known := sizes[strings.TrimPrefix(text[digits:], " ")]
	if err != nil || !known {
		return 0, false
	}
	over, product := bits.Mul64(n, unit)
	return product, over == 0
}
