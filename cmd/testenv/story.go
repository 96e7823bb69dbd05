package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// runStory runs all chapters. The first one with an unexpected result ends it with an error.
func runStory(ctx context.Context, s *storyteller) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	defer func() {
		if s.domain != nil {
			s.domain.Close()
		}
	}()
	for _, chapter := range []func(context.Context) error{
		s.showDirectory, s.sendMessage, s.addUser, s.changeAliases, s.renameAndMove, s.deleteUser, s.showStatus,
		s.stopController, s.restartDaemon,
	} {
		if err := chapter(ctx); err != nil {
			return fmt.Errorf("chapter %d: %w", s.chapter, err)
		}
	}
	slices.Sort(s.delays)
	fmt.Fprintln(s.out.out)
	s.out.say("%d changes in AD, polled every second here; the edge had the slowest after %.2f s, the median after "+
		"%.2f s",
		len(s.delays), s.delays[len(s.delays)-1].Seconds(), s.delays[len(s.delays)/2].Seconds())
	return nil
}

// showDirectory counts the objects in AD.
func (s *storyteller) showDirectory(ctx context.Context) error {
	s.title("What is in Active Directory (dc1, Samba, corp.example)")
	const addressed = "(|(mail=*)(proxyAddresses=*))"
	for _, kind := range []struct{ what, filter string }{
		{"users with addresses",
			"(&(objectCategory=person)(objectClass=user)(!(userAccountControl:1.2.840.113556.1.4.803:=2))" +
				addressed + ")"},
		{"shared, room and other mailboxes (disabled " +
			"accounts)", "(&(objectCategory=person)(objectClass=user)(userAccountControl:1.2.840.113556.1.4.803:=2)" +
			addressed + ")"},
		{"groups", "(&(objectClass=group)" + addressed + ")"},
		{"contacts", "(&(objectClass=contact)" + addressed + ")"},
		{"dynamic distribution lists", "(objectClass=msExchDynamicDistributionList)"},
		{"public folders", "(objectClass=publicFolder)"},
	} {
		n, err := s.domain.Count(kind.filter)
		if err != nil {
			return err
		}
		s.line("%4d %s", n, kind.what)
	}
	addresses, objects, err := s.domain.Recipients()
	if err != nil {
		return err
	}
	s.line("%4d addresses of %d objects in all", len(addresses), objects)
	if _, err := s.h.AwaitCaughtUp(ctx, s.domain); err != nil {
		return err
	}
	status, err := s.h.Status(ctx)
	if err != nil {
		return err
	}
	s.line("the index at the edge: %s, %d addresses of %d objects", status.State, status.Addresses, status.Objects)
	return nil
}

// mixedMail is one message for a known and an unknown recipient.
const mixedMail = `S: 220...
C: EHLO client.elsewhere.example
S: 250...
C: MAIL FROM:<sender@elsewhere.example>
S: 250...
C: RCPT TO:<alice@corp.example>
S: 250...
C: RCPT TO:<A.Adams@CORP.example>
S: 250...
C: RCPT TO:<nobody@corp.example>
S: 550 5.1.1 <nobody@corp.example>: Recipient address rejected: User unknown
C: DATA
S: 354...
C: Subject: ${subject}
C:
C: Hello.
C: .
S: 250...
C: QUIT
S: 221...
=> alice@corp.example
=> A.Adams@CORP.example
`

// sendMessage shows a whole SMTP dialogue and the delivered mail.
func (s *storyteller) sendMessage(ctx context.Context) error {
	s.title("A message for two known recipients and an unknown one, through the real Postfix")
	subject := fmt.Sprintf("demo %d", time.Now().UnixNano())
	dialogue, err := testenv.ParseDialogue("demo", mixedMail, map[string]string{"subject": subject})
	if err != nil {
		return err
	}
	address, err := s.h.Address(ctx, testenv.MX, testenv.PortSMTP)
	if err != nil {
		return err
	}
	transcript, err := dialogue.Run(ctx, address)
	s.block(transcript)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, edgeDeadline)
	defer cancel()
	arrived, err := s.h.Arrived(ctx, subject, dialogue.Delivered...)
	if err != nil {
		return err
	}
	s.line("delivered to the mail server behind the edge: %s", strings.Join(arrived, ", "))
	return nil
}

// userAddress is an address of the user in the demo.
const (
	userAddress    = "dora@corp.example"
	userAlias      = "d.demo@corp.example"
	userNewAddress = "dora.newname@corp.example"
)

func userDN(name, ou string) string { return "CN=" + name + "," + ou }

// addUser adds a user.
func (s *storyteller) addUser(ctx context.Context) error {
	s.title("A user is added")
	if err := s.expectReply(ctx, userAddress, 550); err != nil {
		return err
	}
	return s.expectChange(ctx, "add "+userDN("Dora Demo", testenv.StaffOU)+" with SMTP:"+userAddress, func() error {
		_, err := s.domain.AddUser(testenv.Person{Name: "Dora Demo", Mail: userAddress,
			Proxies: []string{"SMTP:" + userAddress}})
		return err
	}, userAddress, 250)
}

// changeAliases adds an alias and removes it again.
func (s *storyteller) changeAliases(ctx context.Context) error {
	s.title("An alias is added and removed")
	dn := userDN("Dora Demo", testenv.StaffOU)
	err := s.expectChange(ctx, "proxyAddresses + "+
		"smtp:"+userAlias, func() error { return s.domain.AddProxy(dn, "smtp:"+userAlias) }, userAlias, 250)
	if err != nil {
		return err
	}
	return s.expectChange(ctx, "proxyAddresses - "+
		"smtp:"+userAlias, func() error { return s.domain.RemoveProxy(dn, "smtp:"+userAlias) }, userAlias, 550)
}

// renameAndMove gives the user another name, address and place.
func (s *storyteller) renameAndMove(ctx context.Context) error {
	s.title("The user is renamed, gets a new address, and moves to another organizational unit")
	dn := userDN("Dora Demo", testenv.StaffOU)
	err := s.expectChange(ctx, "rename to Dora Newname, address "+userNewAddress, func() error {
		renamed, err := s.domain.Move(dn, "Dora Newname", testenv.StaffOU)
		return errors.Join(err, s.domain.Set(renamed, "mail", userNewAddress),
			s.domain.Set(renamed, "proxyAddresses", "SMTP:"+userNewAddress))
	}, userNewAddress, 250)
	if err != nil {
		return err
	}
	if _, err := s.h.AwaitCaughtUp(ctx, s.domain); err != nil {
		return err
	}
	s.line("the old address no longer exists:")
	if err := s.expectReply(ctx, userAddress, 550); err != nil {
		return err
	}
	s.line("AD: move to %s", testenv.LeaversOU)
	if _, err := s.domain.Move(userDN("Dora Newname", testenv.StaffOU), "Dora Newname", testenv.LeaversOU); err != nil {
		return err
	}
	if _, err := s.h.AwaitCaughtUp(ctx, s.domain); err != nil {
		return err
	}
	s.line("the daemon has read the move; the user keeps the address:")
	return s.expectReply(ctx, userNewAddress, 250)
}

// deleteUser deletes the user.
func (s *storyteller) deleteUser(ctx context.Context) error {
	s.title("The user is deleted")
	dn := userDN("Dora Newname", testenv.LeaversOU)
	return s.expectChange(ctx, "delete "+dn, func() error { return s.domain.Delete(dn) }, userNewAddress, 550)
}

// showStatus shows the output of status and lookup.
func (s *storyteller) showStatus(ctx context.Context) error {
	s.title("rcpt-milter status and lookup")
	for _, command := range [][]string{{"status"}, {"lookup", "alice@corp.example"},
		{"lookup", "nobody@corp.example"}} {
		out, err := s.h.RunMilter(ctx, command...)
		if err != nil {
			return err
		}
		s.line("$ rcpt-milter %s      (exit status %d)", strings.Join(command, " "), out.Status)
		s.block(out.Stdout + out.Stderr)
		if out.Status > 2 {
			return fmt.Errorf("rcpt-milter %s: exit status %d", strings.Join(command, " "), out.Status)
		}
	}
	return nil
}

// stopController stops the domain controller; the daemon still answers.
func (s *storyteller) stopController(ctx context.Context) error {
	s.title("The domain controller is stopped; the daemon still answers")
	s.domain.Close()
	s.domain = nil
	if err := s.h.Stop(ctx, testenv.DC); err != nil {
		return err
	}
	s.line("dc1 is stopped")
	return s.expectBoth(ctx)
}

// expectBoth checks the answers for a known and an unknown recipient.
func (s *storyteller) expectBoth(ctx context.Context) error {
	if err := s.expectReply(ctx, "alice@corp.example", 250); err != nil {
		return err
	}
	return s.expectReply(ctx, "nobody@corp.example", 550)
}

// restartDaemon restarts the daemon while the domain controller is down.
func (s *storyteller) restartDaemon(ctx context.Context) error {
	s.title("The daemon is restarted without a domain controller, and answers from disk")
	if err := s.h.Kill(ctx, testenv.Milter); err != nil {
		return err
	}
	s.line("rcpt-milter was killed (SIGKILL); until it is back, Postfix defers and never rejects:")
	if err := s.expectReply(ctx, "alice@corp.example", 451); err != nil {
		return err
	}
	began := time.Now()
	if err := s.h.StartOnly(ctx, testenv.Milter); err != nil {
		return err
	}
	deadline, cancel := context.WithTimeout(ctx, edgeDeadline)
	defer cancel()
	if _, _, err := s.h.AwaitReply(deadline, "alice@corp.example", 250); err != nil {
		return err
	}
	s.line("it answers %.2f s after its start, without a domain controller:", time.Since(began).Seconds())
	if err := s.expectBoth(ctx); err != nil {
		return err
	}
	if err := s.h.Start(ctx, testenv.DC); err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if _, err := s.h.AwaitCaughtUp(deadline, s.domain); err != nil {
		return err
	}
	s.line("dc1 is back, and the index is fresh again")
	return nil
}
