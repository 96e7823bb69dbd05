package milter

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
)

func mustContinue(t *testing.T, action *gomilter.Action, err error) {
	t.Helper()
	if err != nil || action.Code != gomilter.ActContinue {
		t.Fatalf("%v, %v, want continue", action, err)
	}
}

// TestSession sends several messages in one session, each with many recipients of all kinds, over both kinds of
// sockets. Every recipient must get its own answer.
func TestSession(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			r := serve(t, network, nil)
			s := r.session(t)
			action, err := s.Conn("client.test", gomilter.FamilyInet, 25, "192.0.2.1")
			mustContinue(t, action, err)
			action, err = s.Helo("client.test")
			mustContinue(t, action, err)
			for message := range 3 {
				askAll(t, s)
				if message == 1 {
					if err := s.Abort(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				_, action, err := s.End()
				mustContinue(t, action, err)
			}
			if got := r.Sessions(); got != 1 {
				t.Errorf("%d sessions, want 1", got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// askAll sends recipients of every kind.
func askAll(t *testing.T, s *gomilter.ClientSession) {
	t.Helper()
	for _, c := range answers {
		want := expect(c.reply, c.recipient)
		if got := rcpt(t, s, c.recipient); got != want {
			t.Errorf("RCPT %q = %q, want %q", c.recipient, got, want)
		}
	}
}

func TestMacros(t *testing.T) {
	s := serve(t, "unix", nil).session(t)
	defer s.Close()
	// Without the macro, or with an empty one, the argument is used.
	if got := bareRcpt(t, s, "user@enforce.test"); got != goOn {
		t.Errorf("without macros: %q", got)
	}
	if err := s.Macros(gomilter.CodeRcpt, "i", "4ABC", "{rcpt_addr}", ""); err != nil {
		t.Fatal(err)
	}
	want := expect(noUser, "nobody@enforce.test")
	if got := bareRcpt(t, s, "@route.test:nobody@enforce.test"); got != want {
		t.Errorf("with an empty macro: %q, want %q", got, want)
	}
	// The macro of one recipient does not affect the next.
	if got := rcpt(t, s, "user@enforce.test"); got != goOn {
		t.Errorf("with the macro: %q", got)
	}
	if got, want := bareRcpt(t, s, "nobody@enforce.test"), expect(noUser, "nobody@enforce.test"); got != want {
		t.Errorf("after another's macro: %q, want %q", got, want)
	}
	// The macro takes precedence over the argument.
	if err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", "other@enforce.test"); err != nil {
		t.Fatal(err)
	}
	if got, want := bareRcpt(t, s, "user@enforce.test"), expect(noUser, "other@enforce.test"); got != want {
		t.Errorf("macro and argument differ: %q, want %q", got, want)
	}
	// A percent sign arrives unchanged.
	if got, want := rcpt(t, s, "5%%n@enforce.test"), expect(noUser, "5%%n@enforce.test"); got != want {
		t.Errorf("with percent signs: %q, want %q", got, want)
	}
}

// TestNegotiation checks the negotiated version, the right to choose macros, the suppressed commands, and the
// macros at MAIL and RCPT.
func TestNegotiation(t *testing.T) {
	c := serve(t, "unix", nil).dial(t)
	fmt.Fprint(c, optneg)
	code, data, err := readReply(c)
	want := "\x00\x00\x00\x02" + "\x00\x00\x01\x00" + "\x00\x00\x03\x74" +
		"\x00\x00\x00\x02" + "{mail_addr}\x00" +
		"\x00\x00\x00\x03" + "i {rcpt_addr} {client_addr} {client_name} {auth_authen}\x00"
	if err != nil || code != 'O' || data != want {
		t.Errorf("negotiated %c %q, %v, want O %q", code, data, err, want)
	}
}

// TestSuppressedCommands checks that suppressed commands are answered too.
func TestSuppressedCommands(t *testing.T) {
	c := serve(t, "unix", nil).dial(t)
	for _, p := range []string{
		packet('M', "<from@x.test>\x00SIZE=1\x00"), packet('T', ""), packet('L', "Subject\x00hello\x00"),
		packet('N', ""), packet('B', strings.Repeat("x", 65535)), packet('U', "XFOO bar\x00"), packet('E', ""),
	} {
		t.Run(string(p[4]), func(t *testing.T) {
			fmt.Fprint(c, p)
			if code, data, err := readReply(c); err != nil || code != 'c' || data != "" {
				t.Errorf("reply to %c: %c %q, %v, want c", p[4], code, data, err)
			}
		})
	}
}

// recorder is an Observer that records its calls.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) Observe(_ policy.Query, d policy.Decision, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s %v %v", d.Verdict, d.WouldRefuse, took >= 0))
}

func TestCounting(t *testing.T) {
	observed := &recorder{}
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Observer = observed })
	s := r.session(t)
	for _, recipient := range []string{"user@enforce.test", "nobody@enforce.test", "nobody@report.test",
		"broken@report.test", "gone@enforce.test", "nobody@enforce.test"} {
		rcpt(t, s, recipient)
	}
	want := "known false true, unknown false true, unknown true true, error true true, in-grace false true, " +
		"unknown false true"
	if got := strings.Join(observed.seen, ", "); got != want {
		t.Errorf("observed %s, want %s", got, want)
	}
	decisions, would := r.Counters().Decisions(), r.Counters().WouldRefuse()
	for verdict, want := range map[policy.Verdict][2]int64{
		policy.VerdictKnown: {1, 0}, policy.VerdictUnknown: {3, 1}, policy.VerdictError: {1, 1},
		policy.VerdictInGrace: {1, 0}, policy.VerdictStale: {0, 0},
	} {
		t.Run(string(verdict), func(t *testing.T) {
			if got := [2]int64{decisions[verdict], would[verdict]}; got != want {
				t.Errorf("%s was counted %v, want %v", verdict, got, want)
			}
		})
	}
	if len(decisions) != len(policy.Verdicts()) || len(would) != len(policy.Verdicts()) {
		t.Errorf("%d and %d verdicts counted, want %d", len(decisions), len(would), len(policy.Verdicts()))
	}
}

func TestLogLine(t *testing.T) {
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Logger = nil })
	log := newLogBuffer()
	r.Server.log = log.logger(slog.LevelInfo) // set before the first session
	s := r.session(t)
	if _, err := s.Conn("unknown", gomilter.FamilyInet, 25, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Helo("evil\r\nlevel=INFO"); err != nil {
		t.Fatal(err)
	}
	macros := func(kv ...string) {
		t.Helper()
		if err := s.Macros(gomilter.CodeRcpt, kv...); err != nil {
			t.Fatal(err)
		}
	}
	macros("i", "4ABC", "{rcpt_addr}", "nobody@enforce.test", "{client_addr}", "IPv6:2001:db8::1",
		"{client_name}", "mx.client.test", "{auth_authen}", "me", "{mail_addr}", "from\x1b@client.test")
	bareRcpt(t, s, "x")
	bareRcpt(t, s, "Nobody@report.test")
	macros("{rcpt_addr}", "user@enforce.test") // continue: debug
	bareRcpt(t, s, "x")
	macros("{rcpt_addr}", "broken@report.test", "{mail_addr}", "")
	bareRcpt(t, s, "x")
	want, err := os.ReadFile("testdata/log.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := log.String(); got != string(want) {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
}

// TestLogLineReasons checks that the log line has the configuration entry and the form of the address that
// matched.
func TestLogLineReasons(t *testing.T) {
	p := testPolicy(t, func(cfg *policy.Config) {
		cfg.Domains["catchall.test"] = policy.ModeEnforce
		cfg.Accept = []string{"@catchall.test"}
		cfg.Refuse = []string{"left@enforce.test", "left@report.test"}
		cfg.AcceptFiles = oneTable{"filed@enforce.test"}
		cfg.AcceptPatterns = []string{`srs[01]=.*@enforce\.test`}
		cfg.RecipientDelimiter = "+"
		cfg.ExemptNetworks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		cfg.Harvest = guessersLimit{}
	})
	for _, c := range []struct{ name, client, recipient, want string }{
		{"refuse, with an extension", "", "left+x@enforce.test",
			`verdict=denylisted reply="550 5.1.1 <left+x@enforce.test>: Recipient address rejected: User unknown" ` +
				`would_refuse=false reason="in refuse" without_extension=left@enforce.test`},
		{"refuse in mode report", "", "left@report.test",
			`verdict=denylisted reply=continue would_refuse=true would_reply="550 5.1.1 <left@report.test>: Recipient ` +
				`address rejected: User unknown" reason="in refuse"`},
		{"pattern", "", "srs0=x@enforce.test",
			`verdict=allowlisted reply=continue would_refuse=false reason="matches accept_patterns" ` +
				`entry="srs[01]=.*@enforce\\.test"`},
		{"file", "", "filed@enforce.test",
			`verdict=allowlisted reply=continue would_refuse=false reason="in accept_files" entry=/table:7`},
		{"domain", "", "x@catchall.test",
			`verdict=allowlisted reply=continue would_refuse=false reason="the domain is in accept" entry=@catchall.test`},
		{"exempt", "198.51.100.7", "x@enforce.test",
			`verdict=exempt reply=continue would_refuse=false reason="the client is exempt" entry=198.51.100.0/24`},
		{"restricted", "", "staff@enforce.test",
			`verdict=restricted reply="550 5.1.1 <staff@enforce.test>: Recipient address rejected: User unknown" ` +
				`would_refuse=false reason="takes mail from inside senders only" directory=corp`},
		{"harvest", "192.0.2.1", "x@enforce.test",
			`verdict=harvest-limited reply="421 4.7.0 <x@enforce.test>: Recipient address rejected: Too many unknown ` +
				`recipients, please try again later" would_refuse=false reason="the client's network asks for too many ` +
				`unknown recipients" directory=corp`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := policy.Query{Recipient: c.recipient}
			if c.client != "" {
				q.Client = netip.MustParseAddr(c.client)
			}
			log := newLogBuffer()
			s := &Server{log: log.logger(slog.LevelDebug), counters: newCounters()}
			s.SetRedaction(nil)
			s.observe(q, p.Decide(context.Background(), q), 0)
			if got := log.String(); !strings.HasSuffix(got, c.want+"\n") {
				t.Errorf("logged as\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestEscaped(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{`"two words"@d`, `"two words"@d`},
		{"jürgen", "jürgen"},
		{"a\r\nb\x00", `a\r\nb\x00`},
		{"a\u202eb\xff", `a\u202eb\xff`},
		{"a\ufffd\xff", "a\ufffd" + `\xff`},
		{"\"a\\b\x01\"@d", `"a\b\x01"@d`},
		{strings.Repeat("a", maxLogged), strings.Repeat("a", maxLogged)},
		{strings.Repeat("a", maxLogged+1), strings.Repeat("a", maxLogged) + "..."},
	} {
		t.Run(c.in, func(t *testing.T) {
			if got := escaped(c.in); got != c.want {
				t.Errorf("escaped(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestClientAddr(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"IPv6:2001:db8::1", "2001:db8::1"},
		{"ipv6:2001:db8::1", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"unknown", ""},
		{"IPv6:", ""},
		{"", ""},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, ok := clientAddr(c.in)
			if want, _ := netip.ParseAddr(c.want); got != want || ok != (c.want != "") {
				t.Errorf("clientAddr(%q) = %v, %v, want %q", c.in, got, ok, c.want)
			}
		})
	}
}

// TestQuery checks that the client and the sender come from the macros of RCPT, or else from earlier commands,
// and that the sender is forgotten at the end of the message.
func TestQuery(t *testing.T) {
	s := &session{}
	m := &gomilter.Modifier{Macros: map[string]string{"{auth_authen}": "former"}}
	s.Connect("host.test", "tcp4", 25, []byte{192, 0, 2, 1}, m)
	s.Helo("helo.test", m)
	m.Macros["{auth_authen}"] = "login"
	s.MailFrom("from@x.test", m)
	got := s.query("u@d", nil)
	want := policy.Query{Argument: "u@d", Client: netip.MustParseAddr("192.0.2.1"), ClientName: "host.test",
		Authenticated: "login", Helo: "helo.test", From: "from@x.test"}
	if got != want {
		t.Errorf("query = %+v, want %+v", got, want)
	}
	s.Abort(m)
	want.Authenticated, want.From = "", ""
	if got := s.query("u@d", nil); got != want {
		t.Errorf("after abort: query = %+v, want %+v", got, want)
	}
	s.MailFrom("other@x.test", m)
	s.Body(m)
	if got := s.query("u@d", nil); got != want {
		t.Errorf("after the message: query = %+v, want %+v", got, want)
	}
}

// TestSenderOfEachMessage checks that the sender comes from the macros of MAIL although the command is suppressed,
// that it lasts for one message, and that a macro at RCPT overrides it.
func TestSenderOfEachMessage(t *testing.T) {
	mail := func(from string) string { return packet('D', "M{mail_addr}\x00"+from+"\x00") }
	rcpt := packet('D', "R{rcpt_addr}\x00user@enforce.test\x00") + packet('R', "<x>\x00")
	const a, b = "a@x.test", "b@x.test"
	for name, c := range map[string]struct {
		commands string
		want     []string // senders of the recipients
	}{
		"two recipients":               {mail(a) + rcpt + rcpt, []string{a, a}},
		"bounce":                       {mail("") + rcpt, []string{""}},
		"next message":                 {mail(a) + rcpt + packet('E', "") + mail(b) + rcpt, []string{a, b}},
		"bounce after a message":       {mail(a) + rcpt + packet('E', "") + mail("") + rcpt, []string{a, ""}},
		"aborted":                      {mail(a) + rcpt + packet('A', "") + mail(b) + rcpt, []string{a, b}},
		"aborted, no macros afterward": {mail(a) + rcpt + packet('A', "") + rcpt, []string{a, ""}},
		"MAIL without end of message":  {mail(a) + rcpt + mail(b) + rcpt, []string{a, b}},
		"no value":                     {mail(a) + rcpt + packet('D', "M") + rcpt, []string{a, ""}},
		"command and macros":           {mail(a) + packet('M', "<A@X.test>\x00") + rcpt, []string{a}},
		"command only":                 {packet('M', "<A@X.test>\x00SIZE=1\x00") + rcpt, []string{"A@X.test"}},
		"macro at RCPT": {mail(a) + packet('D', "R{rcpt_addr}\x00user@enforce.test\x00{mail_addr}\x00"+b+"\x00") +
			packet('R', "<x>\x00"), []string{b}},
		"empty macro at RCPT": {mail(a) + packet('D', "R{mail_addr}\x00\x00{rcpt_addr}\x00user@enforce.test\x00") +
			packet('R', "<x>\x00"), []string{""}},
		"next client": {mail(a) + rcpt + packet('C', "client.test\x004\x00\x19192.0.2.1\x00") + rcpt, []string{a, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(senders, 10)
			r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Observer = seen })
			exchange(t, r.address, optneg+c.commands)
			waitForSessions(t, r.Server, 0)
			close(seen)
			var got []string
			for from := range seen {
				got = append(got, from)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("senders %q, want %q", got, c.want)
			}
		})
	}
}

// senders receives the sender of each recipient.
type senders chan string

func (s senders) Observe(q policy.Query, _ policy.Decision, _ time.Duration) { s <- q.From }

// TestQueryOfSendmail checks the macros that Sendmail sets differently from Postfix.
func TestQueryOfSendmail(t *testing.T) {
	tests := []struct{ macro, clientName, recipient, wantName string }{
		{"user@d.test", "host.test", "user@d.test", "host.test"},
		// Sendmail omits the domain for mail that it delivers itself; the argument has it.
		{"user", "host.test", "", "host.test"},
		{"\"a b\"", "host.test", "", "host.test"},
		// Sendmail uses the address as the name of a client without a name.
		{"user@d.test", "[192.0.2.1]", "user@d.test", "unknown"},
		{"user@d.test", "[IPv6:2001:db8::1]", "user@d.test", "unknown"},
	}
	for _, test := range tests {
		t.Run(test.macro, func(t *testing.T) {
			q := (&session{}).query("user@d.test",
				map[string]string{"{rcpt_addr}": test.macro, "{client_name}": test.clientName})
			if q.Recipient != test.recipient || q.ClientName != test.wantName {
				t.Errorf("query(%q, %q) = recipient %q of client %q, want %q of %q",
					test.macro, test.clientName, q.Recipient, q.ClientName, test.recipient, test.wantName)
			}
		})
	}
}

// panicking is an Observer that panics.
type panicking struct{}

func (panicking) Observe(policy.Query, policy.Decision, time.Duration) { panic("observer") }

// TestObserverPanics checks that a panic in the observer changes no answer and ends no session.
func TestObserverPanics(t *testing.T) {
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Observer = panicking{} })
	s := r.session(t)
	for recipient, want := range map[string]string{
		"user@enforce.test": goOn, "nobody@report.test": goOn,
		"nobody@enforce.test": expect(noUser, "nobody@enforce.test"),
	} {
		if got := rcpt(t, s, recipient); got != want {
			t.Errorf("RCPT %q = %q, want %q", recipient, got, want)
		}
	}
	r.log.wait(t, `msg="panic while answering a recipient" panic=observer`)
}

// TestRcptToPanics checks that a panic before the decision results in 451, and that the session continues.
func TestRcptToPanics(t *testing.T) {
	r := serve(t, "unix", nil)
	s := &session{server: r.Server}
	r.policy.Store(nil)
	response, err := s.RcptTo("user@enforce.test", &gomilter.Modifier{})
	if err != nil || response == nil || !strings.HasPrefix(string(response.Response().Data),
		"451 4.3.0 <user@enforce.test>") {
		t.Errorf("RcptTo = %v, %v, want 451", response, err)
	}
}

// TestSetPolicy checks that SetPolicy affects running sessions.
func TestSetPolicy(t *testing.T) {
	r := serve(t, "unix", nil)
	s := r.session(t)
	if got := rcpt(t, s, "nobody@foreign.test"); got != goOn {
		t.Errorf("before: %q", got)
	}
	r.SetPolicy(testPolicy(t, func(cfg *policy.Config) { cfg.Domains["foreign.test"] = policy.ModeEnforce }))
	if got, want := rcpt(t, s, "nobody@foreign.test"), expect(noUser, "nobody@foreign.test"); got != want {
		t.Errorf("after: %q, want %q", got, want)
	}
}

// TestManySessions runs many sessions at once while the policy is replaced.
func TestManySessions(t *testing.T) {
	r := serve(t, "unix", nil)
	other := testPolicy(t, nil)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			s := r.session(t)
			defer s.Close()
			for range 20 {
				r.SetPolicy(other)
				if got := rcpt(t, s, "user@enforce.test"); got != goOn {
					t.Errorf("known: %q", got)
				}
				if got, want := rcpt(t, s, "nobody@enforce.test"), expect(noUser, "nobody@enforce.test"); got != want {
					t.Errorf("unknown: %q, want %q", got, want)
				}
			}
		})
	}
	group.Wait()
	if got := r.Counters().Decisions()[policy.VerdictKnown]; got != 400 {
		t.Errorf("%d known counted, want 400", got)
	}
}

// TestDecisionContext checks that the context of decisions is not canceled when Shutdown starts.
func TestDecisionContext(t *testing.T) {
	r := serve(t, "unix", nil)
	s := r.session(t)
	rcpt(t, s, "user@enforce.test")
	done := make(chan error)
	go func() { done <- r.Shutdown(context.Background()) }()
	<-r.stopping
	if err := r.ctx.Err(); err != nil {
		t.Errorf("while draining: %v", err)
	}
	s.Close()
	if err := <-done; err != nil || r.ctx.Err() == nil {
		t.Errorf("Shutdown: %v, context %v", err, r.ctx.Err())
	}
}

// TestConnectAgain checks that after XCLIENT, no data of the previous client carries over.
func TestConnectAgain(t *testing.T) {
	r := serve(t, "unix", nil)
	s := r.session(t)
	connect := func(name string, family gomilter.ProtoFamily, address, helo string) {
		t.Helper()
		action, err := s.Conn(name, family, 25, address)
		mustContinue(t, action, err)
		if helo != "" {
			action, err = s.Helo(helo)
			mustContinue(t, action, err)
		}
	}
	for i, c := range []struct {
		name    string
		family  gomilter.ProtoFamily
		address string
		helo    string
		want    string
	}{
		{"proxy.test", gomilter.FamilyInet, "192.0.2.1", "proxy.test", "client=proxy.test[192.0.2.1] helo=proxy.test "},
		{"client.test", gomilter.FamilyInet, "192.0.2.2", "", `client=client.test[192.0.2.2] helo="" `},
		{"client.test", gomilter.FamilyInet, "192.0.2.2", "new.test", "client=client.test[192.0.2.2] helo=new.test "},
		{"local.test", gomilter.FamilyUnknown, "", "", `client=local.test[unknown] helo="" `},
	} {
		connect(c.name, c.family, c.address, c.helo)
		recipient := fmt.Sprintf("nobody%d@enforce.test", i)
		rcpt(t, s, recipient)
		r.log.wait(t, c.want+`from="" to=`+recipient)
	}
}

// TestProbe checks that a probe does what a RCPT does, but is neither counted nor observed.
func TestProbe(t *testing.T) {
	observed := &recorder{}
	r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Observer = observed })
	r.Probe()
	r.log.wait(t, "msg=rcpt")
	if !strings.Contains(r.log.String(), "level=ERROR+1000 ") || !strings.Contains(r.log.String(), "verdict=unknown") {
		t.Errorf("log %s", r.log)
	}
	if n := r.Counters().Decisions()[policy.VerdictUnknown]; n != 0 || len(observed.seen) != 0 {
		t.Errorf("%d counted, observed %v", n, observed.seen)
	}
}
