package directory

import (
	"strconv"
	"strings"
)

// valueRange is the range of values in an answer, counted from 0 (MS-ADTS 3.1.1.3.1.3.3). The
// zero value means all of them.
type valueRange struct {
	partial bool // the name carries a range option
	low     int
	high    int // -1: the last one
}

// next returns the index of the first value still to be read; 0 if there is none.
func (s valueRange) next() int {
	if !s.partial || s.high < 0 {
		return 0
	}
	return s.high + 1
}

// rangeFrom returns the description of the values from low to the end.
func rangeFrom(attribute string, low int) string {
	return attribute + ";range=" + strconv.Itoa(low) + "-*"
}

// parseDescription splits an attribute description of a server into its name, in lower case,
// and its range; it ignores other options. ok is false if the range is invalid.
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

// parseIndex parses a number that has only digits and fits an index.
func parseIndex(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err == nil
}
