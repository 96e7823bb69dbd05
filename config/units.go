package config

import (
	"math/bits"
	"strconv"
	"strings"
	"time"
)

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
