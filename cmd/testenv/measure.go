package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"rcpt-milter/testenv"
)

// measure makes changes in AD one after the other and prints the seconds from the directory's
// answer to the new reply of the edge: median and worst. It makes each change as soon as the edge
// knows the previous one, right after a pass, when the next pass is farthest away.
func measure(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	changes := flags.Int("n", 50, "number of changes")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *changes < 1 {
		return errUsage
	}
	t := newTerminal(os.Stdout)
	return withHarness(ctx, t, false, func(_ *testenv.Setup, h *testenv.Harness) error {
		domain, err := h.Administrator(ctx)
		if err != nil {
			return err
		}
		defer domain.Close()
		if _, err := h.AwaitCaughtUp(ctx, domain); err != nil {
			return err
		}
		took, err := measureChanges(ctx, h, domain, *changes)
		if err != nil {
			return err
		}
		slices.Sort(took)
		t.say("%d changes, seconds until the edge's new answer: median %.2f, worst %.2f, best %.2f", len(took),
			took[len(took)/2].Seconds(), took[len(took)-1].Seconds(), took[0].Seconds())
		return nil
	})
}

// measureChanges cycles through four kinds of change: add a user, add an alias, remove that alias,
// delete the user.
func measureChanges(ctx context.Context, h *testenv.Harness, domain *testenv.Domain, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("measure%03d", i/4)
		address, alias, dn := name+"@corp.example", name+".alias@corp.example", "CN="+name+","+testenv.StaffOU
		var err error
		recipient, code := alias, 250
		switch i % 4 {
		case 0:
			recipient = address
			_, err = domain.AddUser(testenv.Person{Name: name, Mail: address, Proxies: []string{"SMTP:" + address}})
		case 1:
			err = domain.AddProxy(dn, "smtp:"+alias)
		case 2:
			code = 550
			err = domain.RemoveProxy(dn, "smtp:"+alias)
		case 3:
			recipient, code = address, 550
			err = domain.Delete(dn)
		}
		if err != nil {
			return took, err
		}
		deadline, cancel := context.WithTimeout(ctx, edgeDeadline)
		_, after, err := h.AwaitReply(deadline, recipient, code)
		cancel()
		if err != nil {
			return took, err
		}
		took = append(took, after)
	}
	return took, nil
}
