package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rcpt-milter/testenv"
)

// probedUsers is the number of recipients in the cache of probes.
const probedUsers = 1000

// Some probes may fail for a moment, for example on a busy machine. Postfix remembers that for hours, so their
// recipients are left out.
const (
	maxFailedProbes = probedUsers / 20
	roundsUnchanged = 30 // after so many rounds without another recipient, the probes of the others have failed
)

// fillProbes asks for all recipients of the candidate with cached probes until it can tell about each.
func (l *laboratory) fillProbes(ctx context.Context) error {
	list := l.candidates()
	c := list[slices.IndexFunc(list, func(c *candidate) bool { return c.probes == cached })]
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	unchanged := 0
	return testenv.Await(ctx, time.Second, func(ctx context.Context) (bool, error) {
		conn, err := l.openSMTP(ctx, c)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		if reply, err := conn.Do("MAIL FROM:<sender@elsewhere.example>"); err != nil || reply.Code() != 250 {
			return false, fmt.Errorf("MAIL: %s: %w", reply, err)
		}
		waiting := map[string]bool{}
		for at := range probedUsers { // as many as recipient has for this number
			to, _ := recipient(at, c.known)
			reply, err := conn.Do("RCPT TO:<" + to + ">")
			if err != nil {
				return false, err
			}
			if reply.Code() == 450 {
				waiting[to] = true
			}
		}
		if unchanged++; len(waiting) != len(l.failed) {
			unchanged = 0
		}
		l.failed = waiting
		return len(waiting) == 0 || unchanged >= roundsUnchanged && len(waiting) <= maxFailedProbes, nil
	})
}
