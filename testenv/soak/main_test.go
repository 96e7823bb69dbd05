package main

import (
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   bool
	}{
		{"", true},
		{"-duration 5m -seed 7 -rate 100 -quiet 2m", true},
		{"-hold 10s -lag 40s", true},
		{"-hold 10s -lag 39s", false},
		{"-rate 0", false},
		{"-changes -1", false},
		{"-duration 0s", false},
		{"-hostile 0", false},
		{"more", false},
	} {
		t.Run(c.args, func(t *testing.T) {
			if _, err := parseOptions(strings.Fields(c.args)); (err == nil) != c.ok {
				t.Errorf("parseOptions(%q) = %v, want an error %t", c.args, err, !c.ok)
			}
		})
	}
	o, err := parseOptions(nil)
	if err != nil || o.Rate*o.Duration.Seconds() < 1_000_000 || o.Duration != time.Hour {
		t.Errorf("parseOptions() = %+v, %v, want an hour and 1,000,000 RCPTs", o, err)
	}
}
