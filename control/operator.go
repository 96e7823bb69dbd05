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

// Operator is the account or the signal that has the daemon do something. The zero value is an
// account that is not known.
type Operator struct {
	known  bool
	uid    uint32
	signal string
}

// BySignal is the sender of a signal, which a process is not told.
func BySignal(name string) Operator { return Operator{signal: name} }

// peerKey is the key of the Operator in the context of a request.
type peerKey struct{}

// withPeer notes the account at the other end of a unix socket, as the kernel had it when the
// connection was made (SO_PEERCRED, unix(7)).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	var o Operator
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

// attrs are how a log line names the operator: the number of the account, and its name where
// there is one.
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

// acted logs what an operator had the daemon do, and how it ended.
func (o Operator) acted(log *slog.Logger, action string, err error, attrs ...any) {
	attrs = append(append([]any{"action", action}, o.attrs()...), attrs...)
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	log.Info("operator action", attrs...)
}

// Reloaded logs a reload that an operator asked for.
func (o Operator) Reloaded(log *slog.Logger, done Reloaded) {
	var err error
	if done.Refused != "" {
		err = errors.New(done.Refused)
	}
	o.acted(log, "reload", err, "changed", done.Changed, "restart_needed", done.Restart)
}

// settled logs the removals that were approved or discarded, a line for each directory that
// had some.
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

// end logs what no line says yet: that there was nothing to do, or an error.
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

// asked adds what limited the query.
func (s *settled) asked(attrs []any) []any {
	if s.query.UpTo != 0 {
		attrs = append(attrs, "up_to", s.query.UpTo)
	}
	return attrs
}
