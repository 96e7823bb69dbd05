package testenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// edgePoll is the interval between queries of the edge while a test waits for a new answer. It is
// the resolution of the measured seconds.
const edgePoll = 25 * time.Millisecond

// Session opens an SMTP session with mx, past EHLO. If client is not empty, mx takes it for the
// address of the client.
func (h *Harness) Session(ctx context.Context, client string) (*Session, error) {
	return h.SessionAt(ctx, MX, client)
}

// SessionAt is Session with another Postfix.
func (h *Harness) SessionAt(ctx context.Context, mx, client string) (*Session, error) {
	address, err := h.Address(ctx, mx, PortSMTP)
	if err != nil {
		return nil, err
	}
	return openSession(ctx, address, client)
}

func openSession(ctx context.Context, address, client string) (*Session, error) {
	session, err := DialSMTP(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := session.Open(client); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

// Ask returns the answer of mx to one RCPT, in its own session: Postfix stops using an
// unreachable milter for the rest of a session.
func (h *Harness) Ask(ctx context.Context, recipient string) (Reply, error) {
	return h.AskAt(ctx, MX, recipient)
}

// AskAt is Ask with another Postfix.
func (h *Harness) AskAt(ctx context.Context, mx, recipient string) (Reply, error) {
	address, err := h.Address(ctx, mx, PortSMTP)
	if err != nil {
		return Reply{}, err
	}
	return AskOnce(ctx, address, recipient)
}

// AskOnce is Ask for any server.
func AskOnce(ctx context.Context, address, recipient string) (Reply, error) {
	session, err := openSession(ctx, address, "")
	if err != nil {
		return Reply{}, err
	}
	defer session.Close()
	reply, err := session.Ask(recipient)
	if err == nil && reply.Code() != 421 {
		_, err = session.Do("QUIT")
	}
	return reply, err
}

// AwaitReply queries mx about a recipient until the reply has this code. It returns the reply and
// the time that took.
func (h *Harness) AwaitReply(ctx context.Context, recipient string, code int) (Reply, time.Duration, error) {
	return h.AwaitReplyAt(ctx, MX, recipient, code)
}

// AwaitReplyAt is AwaitReply with another Postfix.
func (h *Harness) AwaitReplyAt(
	ctx context.Context, mx, recipient string, code int,
) (Reply, time.Duration, error) {
	start := time.Now()
	address, err := h.Address(ctx, mx, PortSMTP)
	if err != nil {
		return Reply{}, 0, err
	}
	var reply Reply
	err = AwaitNil(ctx, edgePoll, func(ctx context.Context) error {
		var err error
		if reply, err = AskOnce(ctx, address, recipient); err != nil {
			return err
		}
		if reply.Code() != code {
			return fmt.Errorf("%s replied %q to %s, want %d", mx, reply, recipient, code)
		}
		return nil
	})
	return reply, time.Since(start), err
}

// recipientsPerTransaction is the number of recipients in one transaction of AskAll; Postfix
// allows smtpd_recipient_limit, 1000.
const recipientsPerTransaction = 500

// AskAll queries mx about many recipients in one session and returns the reply to each. They
// share transactions, because Postfix creates a queue file for each transaction.
func (h *Harness) AskAll(ctx context.Context, recipients []string) (map[string]Reply, error) {
	address, err := h.Address(ctx, MX, PortSMTP)
	if err != nil {
		return nil, err
	}
	return AskAllAt(ctx, address, recipients)
}

// AskAllAt is AskAll for any server.
func AskAllAt(ctx context.Context, address string, recipients []string) (map[string]Reply, error) {
	session, err := openSession(ctx, address, "")
	if err != nil {
		return nil, err
	}
	defer session.Close()
	replies := make(map[string]Reply, len(recipients))
	for some := range slices.Chunk(recipients, recipientsPerTransaction) {
		reply, err := session.Do("MAIL FROM:<sender@elsewhere.example> SMTPUTF8")
		if err != nil || reply.Code() != 250 {
			return replies, fmt.Errorf("smtp: MAIL: %q: %w", reply, errors.Join(err, errRefused))
		}
		for _, recipient := range some {
			if replies[recipient], err = session.Do("RCPT TO:<" + recipient + ">"); err != nil {
				return replies, fmt.Errorf("smtp: RCPT %s: %w", recipient, err)
			}
		}
		if _, err := session.Do("RSET"); err != nil {
			return replies, fmt.Errorf("smtp: RSET: %w", err)
		}
	}
	_, err = session.Do("QUIT")
	return replies, err
}

// AwaitCaughtUp waits until the daemon reads from this domain controller, and has read all its
// current changes.
func (h *Harness) AwaitCaughtUp(ctx context.Context, domain *Domain) (Status, error) {
	usn, err := domain.USN()
	if err != nil {
		return Status{}, err
	}
	var status Status
	err = AwaitNil(ctx, healthPoll, func(ctx context.Context) error {
		if status, err = h.Status(ctx); err != nil {
			return err
		}
		if len(status.Directories) == 0 || status.State != "fresh" ||
			status.Directories[0].DomainController != domain.Host() || status.Directories[0].USN < usn {
			return fmt.Errorf("%s is at USN %d, the daemon at %+v", domain.name, usn, status)
		}
		return nil
	})
	return status, err
}
