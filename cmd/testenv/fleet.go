package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rcpt-milter/testenv"
)

// fleetAging makes the indexes of the edges stale soon, so that the demo need not wait half an hour.
const fleetAging = "late_after: 4s\nstale_after: 8s\n"

// knownAddress and unknownAddress never change in the demo of a fleet.
const (
	knownAddress   = "alice@corp.example"
	unknownAddress = "nobody@corp.example"
)

// runFleetStory runs the chapters of demo -fleet. The first one with an unexpected result ends it with
// an error.
func runFleetStory(ctx context.Context, s *storyteller) error {
	defer func() {
		if s.domain != nil {
			s.domain.Close()
		}
	}()
	for _, chapter := range []func(context.Context) error{
		s.startFleet, s.enrolEdges, s.addMailbox, s.deleteMailbox, s.loseController, s.loseHub, s.restoreHub,
	} {
		if err := chapter(ctx); err != nil {
			return fmt.Errorf("chapter %d: %w", s.chapter, err)
		}
	}
	return nil
}

// startFleet starts the hub and shows who can connect to whom.
func (s *storyteller) startFleet(ctx context.Context) error {
	s.title("A hub inside follows dc1 and runs the engine; two mail edges are in a DMZ")
	if err := s.h.StartFleet(ctx); err != nil {
		return err
	}
	for _, way := range []struct {
		from string
		want bool
	}{{testenv.Hub, true}, {testenv.Edges()[0].MX, false}, {testenv.Edges()[1].MX, false}} {
		open, err := s.h.Reaches(ctx, way.from, testenv.DC, 636)
		if err != nil {
			return err
		}
		if open != way.want {
			return fmt.Errorf("TCP connection from %s to port 636 of dc1: open is %t, want %t", way.from, open,
				way.want)
		}
		s.line("%s → dc1, TCP 636: %s", way.from, map[bool]string{true: "connects", false: "no connection"}[open])
	}
	return nil
}

// enrolEdges enrols both edges and shows the commands.
func (s *storyteller) enrolEdges(ctx context.Context) error {
	s.title("Two commands enrol an edge")
	for _, e := range testenv.Edges() {
		began := time.Now()
		steps, err := s.h.Enrol(ctx, e, testenv.Overlay(fleetAging))
		if err != nil {
			return err
		}
		for _, step := range steps {
			s.line("%s$ %s", step.Service, step.Command)
			s.block(step.Output)
		}
		if err := s.expectAt(ctx, knownAddress, 250, e); err != nil {
			return err
		}
		s.line("%s is ready %.1f s after `edge add`", e.Daemon, time.Since(began).Seconds())
	}
	return nil
}

// expectAt waits until all edges give a reply, and shows the time that each of them took.
func (s *storyteller) expectAt(ctx context.Context, recipient string, code int, edges ...testenv.Edge) error {
	ctx, cancel := context.WithTimeout(ctx, edgeDeadline)
	defer cancel()
	s.line("  RCPT TO:<%s>", recipient)
	lines := make([]string, len(edges))
	var group errgroup.Group
	for i, e := range edges {
		group.Go(func() error {
			reply, took, err := s.h.AwaitReplyAt(ctx, e.MX, recipient, code)
			lines[i] = fmt.Sprintf("%s, after %.2f s: %s", e.MX, took.Seconds(), reply)
			return err
		})
	}
	err := group.Wait()
	s.block(strings.Join(lines, "\n"))
	return err
}

// expectEverywhere is expectAt for all edges.
func (s *storyteller) expectEverywhere(ctx context.Context, recipient string, code int) error {
	return s.expectAt(ctx, recipient, code, testenv.Edges()...)
}

// addMailbox creates a mailbox in AD.
func (s *storyteller) addMailbox(ctx context.Context) error {
	s.title("A mailbox is created in Active Directory; both edges accept it")
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.expectEverywhere(ctx, userAddress, 550); err != nil {
		return err
	}
	s.line("AD: add %s", userDN("Dora Demo", testenv.StaffOU))
	if _, err := s.domain.AddUser(testenv.Person{Name: "Dora Demo", Mail: userAddress,
		Proxies: []string{"SMTP:" + userAddress}}); err != nil {
		return err
	}
	return s.expectEverywhere(ctx, userAddress, 250)
}

// deleteMailbox deletes the mailbox again.
func (s *storyteller) deleteMailbox(ctx context.Context) error {
	s.title("The mailbox is deleted; both edges reject it")
	s.line("AD: delete %s", userDN("Dora Demo", testenv.StaffOU))
	if err := s.domain.Delete(userDN("Dora Demo", testenv.StaffOU)); err != nil {
		return err
	}
	return s.expectEverywhere(ctx, userAddress, 550)
}

// loseController stops dc1 until the edges are stale.
func (s *storyteller) loseController(ctx context.Context) error {
	s.title("The domain controller is stopped; the edges answer from their index")
	s.domain.Close()
	s.domain = nil
	if err := s.h.Stop(ctx, testenv.DC); err != nil {
		return err
	}
	s.line("dc1 is stopped")
	if err := s.expectEverywhere(ctx, knownAddress, 250); err != nil {
		return err
	}
	s.line("the edges know the age of Active Directory; stale_after is 8 s here")
	if err := s.expectEverywhere(ctx, unknownAddress, 451); err != nil {
		return err
	}
	if err := s.expectEverywhere(ctx, knownAddress, 250); err != nil {
		return err
	}
	if err := s.h.Start(ctx, testenv.DC); err != nil {
		return err
	}
	s.line("dc1 is back")
	return s.expectEverywhere(ctx, unknownAddress, 550)
}

// loseHub kills the hub with its engine.
func (s *storyteller) loseHub(ctx context.Context) error {
	s.title("The hub and its engine are killed (SIGKILL); the edges answer")
	if err := s.h.Kill(ctx, testenv.Hub); err != nil {
		return err
	}
	if err := s.expectEverywhere(ctx, knownAddress, 250); err != nil {
		return err
	}
	s.line("they become stale by their own clock")
	if err := s.expectEverywhere(ctx, unknownAddress, 451); err != nil {
		return err
	}
	return s.expectEverywhere(ctx, knownAddress, 250)
}

// restoreHub starts the hub again and shows that all indexes are equal.
func (s *storyteller) restoreHub(ctx context.Context) error {
	s.title("The hub is started; all indexes are equal")
	began := time.Now()
	if err := s.h.StartOnly(ctx, testenv.Hub); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, edgeDeadline)
	defer cancel()
	if err := s.h.AwaitFleet(ctx); err != nil {
		return err
	}
	s.line("all edges were fresh and equal %.1f s after the start of the hub", time.Since(began).Seconds())
	out, err := s.h.Exec(ctx, testenv.Hub, "rcpt-milter", "fleet", "status")
	if err != nil {
		return err
	}
	s.line("hub$ rcpt-milter fleet status      (exit status %d)", out.Status)
	s.block(strings.TrimSpace(out.Stdout + out.Stderr))
	return nil
}
