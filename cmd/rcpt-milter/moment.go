package main

import (
	"fmt"
	"time"

	"rcpt-milter/config"
)

// localTimes are the layouts of a time without a zone, which is local.
var localTimes = []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02"}

// parsePast reads a time in the past: RFC 3339, local time, or a duration ago. Errors name the
// flag.
func (a *app) parsePast(flag, text string) (time.Time, error) {
	now := a.now()
	at, ok := readTime(text, now)
	if !ok {
		return at, &exitError{exitUsage, fmt.Errorf("--%s: expected a duration (2h is two hours ago), a time such as "+
			"\"2026-01-31 15:04\", or one of RFC 3339, got %q", flag, text)}
	}
	if at.After(now) {
		return at, &exitError{exitUsage, fmt.Errorf("--%s: %s is in the future", flag, a.moment(at))}
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
