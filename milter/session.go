package milter

import (
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	gomilter "github.com/emersion/go-milter"
)

// rcptMacros are asked for at the RCPT stage, because the library keeps the macros
// of the last stage only: all that the decision and its log line need.
// {mail_addr} saves the MAIL command, of which the MTA need not tell us.
func rcptMacros() []string {
	return []string{
		"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}",
		"{client_addr}", "{client_name}", "{auth_authen}", "{mail_addr}",
	}
}

// suppressed are the parts of a transaction that the MTA need not send. CONNECT and
// HELO stay, once a session: no macro carries the name of HELO. Flags by which we
// would promise not to reply stay out, the library does not implement them; so does
// OptRcptRej, since a recipient refused by the MTA itself is not our business.
const suppressed = gomilter.OptNoMailFrom | gomilter.OptNoHeaders | gomilter.OptNoEOH |
	gomilter.OptNoBody | gomilter.OptNoUnknown | gomilter.OptNoData

// session is one connection of an MTA, which is one SMTP session with any number of
// messages. The library calls it from one goroutine. Its zero value with server set
// is ready: making one must not fail, because the library makes them in the
// goroutine that accepts connections.
type session struct {
	// Continue is the answer to all that is not overridden below.
	gomilter.NoOpMilter
	server *Server

	// From CONNECT and HELO; they stay for all messages.
	client     netip.Addr
	clientName string
	helo       string

	// From MAIL, where an MTA sends it all the same; forgotten after the message.
	from          string
	authenticated string
}

var _ gomilter.Milter = (*session)(nil)

// Connect notes the client; the MTA's macros at RCPT take precedence.
func (s *session) Connect(host, _ string, _ uint16, addr net.IP, _ *gomilter.Modifier) (gomilter.Response, error) {
	s.clientName = host
	if client, ok := netip.AddrFromSlice(addr); ok {
		s.client = client.Unmap()
	}
	return gomilter.RespContinue, nil
}

// Helo notes the name; STARTTLS makes clients say it again.
func (s *session) Helo(name string, _ *gomilter.Modifier) (gomilter.Response, error) {
	s.helo = name
	return gomilter.RespContinue, nil
}

// MailFrom notes the sender.
func (s *session) MailFrom(from string, m *gomilter.Modifier) (gomilter.Response, error) {
	s.from, s.authenticated = from, m.Macros["{auth_authen}"]
	return gomilter.RespContinue, nil
}

// RcptTo answers one recipient; never with an error, which would drop the connection
// and with it the MTA's trust in us for the rest of its session.
func (s *session) RcptTo(argument string, m *gomilter.Modifier) (response gomilter.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.server.log.Error("panic while answering a recipient", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if response == nil { // not yet decided
				response = cannotTell(argument).response()
			}
			err = nil
		}
	}()
	start := time.Now()
	q := s.query(argument, m.Macros)
	// Macros belong to one command. The library keeps them until others come, and an
	// old {rcpt_addr} would answer for the wrong recipient.
	clear(m.Macros)
	policy := s.server.policy.Load()
	d := policy.Decide(s.server.ctx, q)
	response = d.Reply.response()
	s.server.observe(q, d, time.Since(start))
	policy.Charge(q, d)
	return response, nil
}

// Body is the end of a message, which cannot be suppressed. Overrides accept: the
// filters after us want to have a say too.
func (s *session) Body(*gomilter.Modifier) (gomilter.Response, error) {
	s.from, s.authenticated = "", ""
	return gomilter.RespContinue, nil
}

// Abort is the end of a transaction that brought no message; the session goes on.
func (s *session) Abort(*gomilter.Modifier) error {
	s.from, s.authenticated = "", ""
	return nil
}

// query gathers what is known at a RCPT: macros first, then what was noted before.
func (s *session) query(argument string, macros map[string]string) Query {
	q := Query{
		Argument: argument,
		Client:   s.client, ClientName: s.clientName,
		Authenticated: s.authenticated, Helo: s.helo, From: s.from,
		QueueID: macros["i"],
	}
	// Sendmail leaves out the domain where it delivers the mail itself.
	if addr := macros["{rcpt_addr}"]; strings.Contains(addr, "@") {
		q.Recipient = addr
	}
	if client, ok := clientAddr(macros["{client_addr}"]); ok {
		q.Client = client
	}
	if name := macros["{client_name}"]; name != "" {
		q.ClientName = name
	}
	if strings.HasPrefix(q.ClientName, "[") { // Sendmail's way to say that it has none
		q.ClientName = "unknown"
	}
	if login := macros["{auth_authen}"]; login != "" {
		q.Authenticated = login
	}
	if from := macros["{mail_addr}"]; from != "" {
		q.From = from
	}
	return q
}

// clientAddr reads the {client_addr} macro, which has the form of an RFC 5321
// address literal without brackets: "192.0.2.1" or "IPv6:2001:db8::1".
func clientAddr(macro string) (netip.Addr, bool) {
	if len(macro) > 5 && strings.EqualFold(macro[:5], "IPv6:") {
		macro = macro[5:]
	}
	addr, err := netip.ParseAddr(macro)
	return addr.Unmap(), err == nil
}
