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

// requestedMacros are the macros that the MTA should send at each stage, in the order of the stages. Those of RCPT
// must include everything that the decision and its log line need, because a dialogue keeps only the macros of
// the current stage.
//
// Only the sender comes from MAIL, for a message. Postfix resolves an address for each macro that has one. It has
// already resolved the recipient, but {mail_addr} at RCPT would make it resolve the sender again for each
// recipient, with a request to trivial-rewrite(8).
func requestedMacros() []stageMacros {
	return []stageMacros{
		{gomilter.StageMailFrom, []string{"{mail_addr}"}},
		{gomilter.StageRcptTo, []string{"i", "{rcpt_addr}", "{client_addr}", "{client_name}", "{auth_authen}"}},
	}
}

// stageMacros are the macros of one stage.
type stageMacros struct {
	stage gomilter.Stage
	names []string
}

// suppressed are the commands that the MTA need not send. Postfix and Sendmail send the macros of a stage
// nevertheless, together with the next command. CONNECT and HELO, which occur once per session, are not
// suppressed, because no macro has the HELO name. The options to omit replies are not included, because a
// dialogue does not implement them. Neither is OptRcptRej, because recipients that the MTA itself rejects do
// not matter here.
const suppressed = gomilter.OptNoMailFrom | gomilter.OptNoHeaders | gomilter.OptNoEOH |
	gomilter.OptNoBody | gomilter.OptNoUnknown | gomilter.OptNoData

// session is one connection of an MTA, which is one SMTP session with any number of messages. The dialogue
// calls its methods from one goroutine.
type session struct {
	// Commands without a method below are answered with continue.
	gomilter.NoOpMilter
	server *Server

	// From CONNECT and HELO, for all messages of the session.
	client     netip.Addr
	clientName string
	helo       string

	// From MAIL or its macros, for one message.
	from          string
	authenticated string

	recipients int // recipients of the message so far, including rejected ones
}

var _ gomilter.Milter = (*session)(nil)

// Connect records the client. Macros at RCPT take precedence. After XCLIENT, an MTA may send CONNECT again on
// the same connection. Data of the previous client, such as its HELO name or its login, must not carry over.
func (s *session) Connect(host, _ string, _ uint16, addr net.IP, m *gomilter.Modifier) (gomilter.Response, error) {
	s.forget(m)
	s.clientName = host
	if client, ok := netip.AddrFromSlice(addr); ok {
		s.client = client.Unmap()
	}
	return gomilter.RespContinue, nil
}

// forget forgets the client, also the macros that the MTA sent for it.
func (s *session) forget(m *gomilter.Modifier) {
	*s = session{server: s.server}
	clear(m.Macros)
}

// Helo records the HELO name. Clients repeat the command after STARTTLS.
func (s *session) Helo(name string, _ *gomilter.Modifier) (gomilter.Response, error) {
	s.helo = name
	return gomilter.RespContinue, nil
}

// beginMessage records the data of a message from the macros of MAIL.
func (s *session) beginMessage(macros map[string]string) {
	s.from, s.authenticated, s.recipients = macros["{mail_addr}"], macros["{auth_authen}"], 0
}

// MailFrom records the sender, if an MTA sends the command nevertheless.
func (s *session) MailFrom(from string, m *gomilter.Modifier) (gomilter.Response, error) {
	s.beginMessage(m.Macros)
	s.from = cmp.Or(s.from, from)
	return gomilter.RespContinue, nil
}

// RcptTo answers one recipient. It never returns an error, because an error would end the milter session, and
// with it all checks of the SMTP session.
func (s *session) RcptTo(argument string, m *gomilter.Modifier) (answer gomilter.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.server.log.Error("panic while answering a recipient", "panic", fmt.Sprint(v), "stack",
				string(debug.Stack()))
			if answer == nil { // the panic came before the decision
				answer = response(policy.CannotTell(argument))
			}
			err = nil
		}
	}()
	start := time.Now()
	s.recipients++
	q := s.query(argument, m.Macros)
	// The dialogue keeps macros until it receives others. A stale {rcpt_addr} would answer for the wrong
	// recipient.
	clear(m.Macros)
	p := s.server.policy.Load()
	d := p.Decide(s.server.ctx, q)
	answer = response(d.Reply)
	s.server.observe(q, d, time.Since(start))
	p.Charge(q, d)
	return answer, nil
}

// Body handles the end of a message, which cannot be suppressed. The library's default reply is accept, which
// would skip the filters after this one.
func (s *session) Body(*gomilter.Modifier) (gomilter.Response, error) {
	s.from, s.authenticated, s.recipients = "", "", 0
	return gomilter.RespContinue, nil
}

// Abort handles the end of a transaction without a message. The session continues.
func (s *session) Abort(*gomilter.Modifier) error {
	s.from, s.authenticated, s.recipients = "", "", 0
	return nil
}

// query collects the data available at a RCPT: macros take precedence over data from earlier commands. It
// escapes text that is only logged and does not name a mailbox.
func (s *session) query(argument string, macros map[string]string) policy.Query {
	q := policy.Query{
		Argument: argument,
		Client:   s.client, ClientName: escaped(cmp.Or(macros["{client_name}"], s.clientName)),
		Authenticated: cmp.Or(macros["{auth_authen}"], s.authenticated),
		Helo:          escaped(s.helo),
		From:          s.from,
		Nth:           s.recipients,
		QueueID:       escaped(macros["i"]),
	}
	if from, sent := macros["{mail_addr}"]; sent { // empty means a bounce
		q.From = from
	}
	// Sendmail omits the domain for mail that it delivers itself.
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

// clientAddr parses the {client_addr} macro, or the address of CONNECT. It is an RFC 5321 address literal without
// brackets: "192.0.2.1" or "IPv6:2001:db8::1".
func clientAddr(macro string) (netip.Addr, bool) {
	if len(macro) > 5 && strings.EqualFold(macro[:5], "IPv6:") {
		macro = macro[5:]
	}
	addr, err := netip.ParseAddr(macro)
	return addr.Unmap(), err == nil
}
