package main

import (
	"fmt"
	"time"

	"rcpt-milter/config"
)

// localTimes are the forms of a time without a zone; it is that of this machine.
var localTimes = []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02"}

// past reads a time that has been: RFC 3339, local, or so long ago. The flag names it
// in errors.
func (a *app) past(flag, text string) (time.Time, error) {
	now := a.now()
	at, ok := readTime(text, now)
	if !ok {
		return at, &exit{exitUsage, fmt.Errorf("--%s: expected a duration (2h is two hours ago), a time such as \"2026-01-31 15:04\", or one of RFC 3339, got %q", flag, text)}
	}
	if at.After(now) {
		return at, &exit{exitUsage, fmt.Errorf("--%s: %s is in the future", flag, a.moment(at))}
	}
	return at, nil
}

func readTime(text string, now time.Time) (time.Time, bool) {
	if d, ok := config.ParseDuration(text); ok {
		return now.Add(-d), true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	for _, form := range localTimes {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
