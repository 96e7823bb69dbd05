package milter

import (
	"slices"
	"testing"
	"time"

	"rcpt-milter/policy"
)

// clients receives client and login of each recipient.
type clients chan string

func (c clients) Observe(q policy.Query, _ policy.Decision, _ time.Duration) {
	c <- q.ClientLabel() + " " + q.Helo + " " + q.Authenticated + " " + q.From
}

// TestNextClient checks that nothing of a client carries over to the next one of the same connection: after XCLIENT,
// and after SMFIC_QUIT_NC, with which an MTA reuses the connection for another client.
func TestNextClient(t *testing.T) {
	first := packet('C', "one.test\x004\x00\x19192.0.2.1\x00") + packet('H', "helo.test\x00") +
		packet('D', "M{auth_authen}\x00ann\x00{mail_addr}\x00ann@x.test\x00")
	second := packet('C', "two.test\x006\x00\x19IPv6:2001:db8::2\x00")
	rcpt := packet('R', "<user@enforce.test>\x00")
	const ann, stranger = "one.test[192.0.2.1] helo.test ann ann@x.test", "two.test[2001:db8::2]   "
	for name, c := range map[string]struct {
		commands string
		want     []string
	}{
		"XCLIENT":                {first + rcpt + second + rcpt, []string{ann, stranger}},
		"XCLIENT after MAIL":     {first + second + rcpt, []string{stranger}},
		"QUIT_NC":                {first + rcpt + packet('K', "") + second + rcpt, []string{ann, stranger}},
		"QUIT_NC after MAIL":     {first + packet('K', "") + second + rcpt, []string{stranger}},
		"QUIT_NC, negotiation":   {first + rcpt + packet('K', "") + optneg + second + rcpt, []string{ann, stranger}},
		"QUIT_NC, no connection": {first + packet('K', "") + rcpt, []string{"unknown[unknown]   "}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(clients, 10)
			r := serve(t, "unix", func(cfg *ServerConfig) { cfg.Observer = seen })
			exchange(t, r.address, optneg+c.commands)
			waitForSessions(t, r.Server, 0)
			close(seen)
			var got []string
			for one := range seen {
				got = append(got, one)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("clients %q, want %q", got, c.want)
			}
		})
	}
}
