package directory

import (
	"strconv"
	"strings"
)

// valueRange says which values of an attribute an answer holds, counted from 0 (MS-ADTS
// 3.1.1.3.1.3.3). Zero: all of them.
type valueRange struct {
	partial bool // the name carries a range option
	low     int
	high    int // -1: the last one
}

// next is where the values that are still to be read begin; 0: there are none.
func (s valueRange) next() int {
	if !s.partial || s.high < 0 {
		return 0
	}
	return s.high + 1
}

// rangeFrom writes the range from low to the end.
func rangeFrom(attribute string, low int) string {
	return attribute + ";range=" + strconv.Itoa(low) + "-*"
}

// parseDescription splits an attribute description as a server returns it into name,
// in lower case, and range; other options are left out. ok is false for a range that
// makes no sense.
func parseDescription(description string) (name string, s valueRange, ok bool) {
	name, options, _ := strings.Cut(strings.ToLower(description), ";")
	for option := range strings.SplitSeq(options, ";") {
		bounds, isRange := strings.CutPrefix(option, "range=")
		if !isRange {
			continue
		}
		low, high, cut := strings.Cut(bounds, "-")
		if !cut || s.partial {
			return name, valueRange{}, false
		}
		s = valueRange{partial: true, high: -1}
		if s.low, ok = parseIndex(low); !ok {
			return name, valueRange{}, false
		}
		if high == "*" {
			continue
		}
		if s.high, ok = parseIndex(high); !ok || s.high < s.low {
			return name, valueRange{}, false
		}
	}
	return name, s, name != ""
}

// parseIndex reads a number of digits only, small enough to count values with.
func parseIndex(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err == nil
}
