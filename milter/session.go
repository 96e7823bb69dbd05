package milter

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
)

// rcptMacros are requested for the RCPT stage: everything that the decision and its log line
// need, because a dialogue keeps the macros of the last stage only. {mail_addr} saves the
// MAIL command.
func rcptMacros() []string {
	return []string{
		"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}",
		"{client_addr}", "{client_name}", "{auth_authen}", "{mail_addr}",
	}
}

// suppressed are the commands that the MTA need not send. CONNECT and HELO stay, once a
// session: no macro carries the HELO name. The flags that promise not to reply are left out,
// because a dialogue does not implement them. So is OptRcptRej: recipients that the MTA
// itself rejects do not matter here.
const suppressed = gomilter.OptNoMailFrom | gomilter.OptNoHeaders | gomilter.OptNoEOH |
	gomilter.OptNoBody | gomilter.OptNoUnknown | gomilter.OptNoData

// session is one connection of an MTA: one SMTP session with any number of messages. The
// dialogue calls its methods from one goroutine.
type session struct {
	// The answer to every command without a method below is continue.
	gomilter.NoOpMilter
	server *Server

	// From CONNECT and HELO, for all messages of the session.
	client     netip.Addr
	clientName string
	helo       string

	// From MAIL, for one message, if the MTA sends it nevertheless.
	from          string
	authenticated string

	recipients int // of the message so far, rejected ones included
}

var _ gomilter.Milter = (*session)(nil)

// Connect records the client. Macros at RCPT take precedence. After XCLIENT an MTA may send CONNECT
// again on the same connection: nothing of the client before, such as its HELO name, counts for
// the next one.
func (s *session) Connect(host, _ string, _ uint16, addr net.IP, _ *gomilter.Modifier) (gomilter.Response, error) {
	*s = session{server: s.server, clientName: host}
	if client, ok := netip.AddrFromSlice(addr); ok {
		s.client = client.Unmap()
	}
	return gomilter.RespContinue, nil
}

// Helo records the name. Clients repeat it after STARTTLS.
func (s *session) Helo(name string, _ *gomilter.Modifier) (gomilter.Response, error) {
	s.helo = name
	return gomilter.RespContinue, nil
}

// MailFrom records the sender.
func (s *session) MailFrom(from string, m *gomilter.Modifier) (gomilter.Response, error) {
	s.from, s.authenticated, s.recipients = from, m.Macros["{auth_authen}"], 0
	return gomilter.RespContinue, nil
}

// RcptTo answers one recipient. It never returns an error, which would end the milter
// session, and with it all checks of the MTA's session.
func (s *session) RcptTo(argument string, m *gomilter.Modifier) (answer gomilter.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.server.log.Error("panic while answering a recipient", "panic", fmt.Sprint(v), "stack",
				string(debug.Stack()))
			if answer == nil { // not yet decided
				answer = response(policy.CannotTell(argument))
			}
			err = nil
		}
	}()
	start := time.Now()
	s.recipients++
	q := s.query(argument, m.Macros)
	// The dialogue keeps macros until it gets others. An old {rcpt_addr} would answer for the
	// wrong recipient.
	clear(m.Macros)
	p := s.server.policy.Load()
	d := p.Decide(s.server.ctx, q)
	answer = response(d.Reply)
	s.server.observe(q, d, time.Since(start))
	p.Charge(q, d)
	return answer, nil
}

// Body is the end of a message, which cannot be suppressed. The library's default is accept,
// which would skip the filters after this one.
func (s *session) Body(*gomilter.Modifier) (gomilter.Response, error) {
	s.from, s.authenticated, s.recipients = "", "", 0
	return gomilter.RespContinue, nil
}

// Abort is the end of a transaction without a message. The session goes on.
func (s *session) Abort(*gomilter.Modifier) error {
	s.from, s.authenticated, s.recipients = "", "", 0
	return nil
}

// query collects what is known at a RCPT: macros first, then what earlier commands brought.
// It escapes text that is only shown and names no mailbox.
func (s *session) query(argument string, macros map[string]string) policy.Query {
	q := policy.Query{
		Argument: argument,
		Client:   s.client, ClientName: escaped(cmp.Or(macros["{client_name}"], s.clientName)),
		Authenticated: cmp.Or(macros["{auth_authen}"], s.authenticated),
		Helo:          escaped(s.helo),
		From:          cmp.Or(macros["{mail_addr}"], s.from),
		Nth:           s.recipients,
		QueueID:       escaped(macros["i"]),
	}
	// Sendmail omits the domain of mail that it delivers itself.
	if addr := macros["{rcpt_addr}"]; strings.Contains(addr, "@") {
		q.Recipient = addr
	}
	if client, ok := clientAddr(macros["{client_addr}"]); ok {
		q.Client = client
	}
	if strings.HasPrefix(q.ClientName, "[") { // Sendmail's form for a client without a name
		q.ClientName = "unknown"
	}
	return q
}

// clientAddr parses the {client_addr} macro. It has the form of an RFC 5321 address literal
// without brackets: "192.0.2.1" or "IPv6:2001:db8::1".
func clientAddr(macro string) (netip.Addr, bool) {
	if len(macro) > 5 && strings.EqualFold(macro[:5], "IPv6:") {
		macro = macro[5:]
	}
	addr, err := netip.ParseAddr(macro)
	return addr.Unmap(), err == nil
}
