package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Operator is the account or the signal that requested an action. The zero value is an
// unknown account.
type Operator struct {
	known  bool
	uid    uint32
	signal string
}

// BySignal returns the operator of a signal, whose sender is unknown.
func BySignal(name string) Operator { return Operator{signal: name} }

// peerKey is the key of the Operator in the context of a request.
type peerKey struct{}

// withPeer stores the account of the peer of a unix socket at the time of the connection
// (SO_PEERCRED, unix(7)).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	var o Operator
	if limited, ok := c.(*limitedConn); ok {
		c = limited.Conn
	}
	if u, ok := c.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					o = Operator{known: true, uid: peer.Uid}
				}
			})
		}
	}
	return context.WithValue(ctx, peerKey{}, o)
}

// operatorOf returns the account that sent a request.
func operatorOf(ctx context.Context) Operator {
	o, _ := ctx.Value(peerKey{}).(Operator)
	return o
}

// attrs returns the log attributes of the operator: the uid, and the user name if it has one.
func (o Operator) attrs() []any {
	switch {
	case o.signal != "":
		return []any{"signal", o.signal}
	case !o.known:
		return []any{"uid", "unknown"}
	}
	uid := strconv.FormatUint(uint64(o.uid), 10)
	attrs := []any{"uid", o.uid}
	if u, err := user.LookupId(uid); err == nil {
		attrs = append(attrs, "user", u.Username)
	}
	return attrs
}

// acted logs an action of an operator and its outcome.
func (o Operator) acted(log *slog.Logger, action string, err error, attrs ...any) {
	attrs = append(append([]any{"action", action}, o.attrs()...), attrs...)
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	log.Info("operator action", attrs...)
}

// Reloaded logs a reload that an operator requested.
func (o Operator) Reloaded(log *slog.Logger, done Reloaded) {
	var err error
	if done.Refused != "" {
		err = errors.New(done.Refused)
	}
	o.acted(log, "reload", err, "changed", done.Changed, "restart_needed", done.Restart)
}

// settled logs approved or discarded removals, one line for each directory.
type settled struct {
	Operator
	log    *slog.Logger
	action string
	query  RemovalsQuery
	any    bool
}

func (s *settled) done(d RemovalsDone) {
	s.any = true
	attrs := []any{"directory", d.Directory, "objects", d.Kept}
	if s.action == actionApprove {
		attrs = []any{"directory", d.Directory, "pass", d.Pass, "removed", d.Removed, "waiting", d.Waiting}
	}
	s.acted(s.log, s.action, nil, s.asked(attrs)...)
}

// end logs an error, or that there was nothing to do.
func (s *settled) end(err error) {
	if s.any && err == nil {
		return
	}
	attrs := []any{"directory", s.query.Directory}
	switch {
	case err != nil:
	case s.action == actionApprove:
		attrs = append(attrs, "removed", 0)
	default:
		attrs = append(attrs, "objects", 0)
	}
	s.acted(s.log, s.action, err, s.asked(attrs)...)
}

// asked adds the limit of the query.
func (s *settled) asked(attrs []any) []any {
	if s.query.UpTo != 0 {
		attrs = append(attrs, "up_to", s.query.UpTo)
	}
	return attrs
}
