package milter

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"

	gomilter "github.com/emersion/go-milter"
)

// TestDialogueSpeaksAsTheLibrary checks that random commands, valid and malformed, get the same bytes as from
// the library's server with the same session.
func TestDialogueSpeaksAsTheLibrary(t *testing.T) {
	defer BridgeLog(slog.New(slog.DiscardHandler))()
	ours := serve(t, "unix", func(cfg *ServerConfig) { cfg.Logger = nil })
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(socketPath(t)), "library.sock"))
	if err != nil {
		t.Fatal(err)
	}
	library := &gomilter.Server{
		NewMilter: func() gomilter.Milter { return &session{server: ours.Server} },
		Actions:   gomilter.OptSetSymList,
		Protocol:  suppressed,
		SymList:   map[gomilter.Stage][]string{},
	}
	var inOrder, reversed string // the library negotiates the macros of the stages in any order
	for _, m := range requestedMacros() {
		library.SymList[m.stage] = m.names
		one := fmt.Sprintf("\x00\x00\x00%c%s\x00", byte(m.stage), strings.Join(m.names, " "))
		inOrder, reversed = inOrder+one, one+reversed
	}
	served := make(chan error, 1)
	go func() { served <- library.Serve(l) }()
	defer func() {
		l.Close()
		<-served
	}()
	answered := 0
	for seed := range uint64(300) {
		stream := randomStream(rand.New(rand.NewPCG(seed, 1)))
		want := strings.ReplaceAll(exchange(t, l.Addr().String(), stream), reversed, inOrder)
		if got := exchange(t, ours.address, stream); got != want {
			t.Fatalf("replies to %q:\n%q\nthe library's:\n%q", stream, got, want)
		}
		answered += strings.Count(want, "550 5.1.1")
	}
	if answered < 100 {
		t.Errorf("only %d recipients were rejected", answered)
	}
	waitForSessions(t, ours.Server, 0)
}

// randomStream returns the commands of a session. Few are malformed, because malformed commands end the
// session.
func randomStream(random *rand.Rand) string {
	recipients := []string{"user@enforce.test", "nobody@enforce.test", "gone@enforce.test", "n%d@enforce.test",
		"x@report.test", "broken@enforce.test", "us\"er@report.test", "", "\x00", "a b"}
	recipient := func() string { return recipients[random.IntN(len(recipients))] }
	macros := []string{"i", "{rcpt_addr}", "{client_addr}", "{client_name}", "{auth_authen}", "{mail_addr}", "", "x"}
	var stream strings.Builder
	if random.IntN(4) > 0 {
		stream.WriteString(optneg)
	}
	for range random.IntN(40) {
		switch random.IntN(12) {
		case 0, 1, 2:
			text := string("RMC"[random.IntN(3)])
			for range random.IntN(5) {
				text += macros[random.IntN(len(macros))] + "\x00" + recipient() + strings.Repeat("\x00", random.IntN(3))
			}
			stream.WriteString(packet('D', text))
		case 3, 4, 5, 6:
			stream.WriteString(packet('R', fmt.Sprintf("<%s>\x00NOTIFY=NEVER\x00", recipient())))
		case 7:
			stream.WriteString(packet('M', "<"+recipient()+">\x00SIZE=1\x00"))
		case 8:
			families := []string{"4\x00\x19192.0.2.1\x00", "6\x00\x19IPv6:2001:db8::1\x00", "L", "U\x00", "4\x00\x19",
				"4\x00"}
			stream.WriteString(packet('C', "client.test\x00"+families[random.IntN(len(families))]))
		case 9:
			stream.WriteString(packet('H', recipient()+"\x00"))
		case 10:
			stream.WriteString(packet("ABELNTO"[random.IntN(7)], recipient()))
		case 11:
			if random.IntN(10) == 0 {
				bad := []string{packet('D', ""), packet('C', "x"), packet('z', ""), packet('Q', ""),
					packet('C', "x\x00")}
				stream.WriteString(bad[random.IntN(len(bad))])
			}
		}
	}
	return stream.String()
}

// exchange sends a stream and returns all replies.
func exchange(t *testing.T, path, stream string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(deadline())
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(c, stream) // fails if the session has ended
		c.(*net.UnixConn).CloseWrite()
	}()
	var got strings.Builder
	for {
		code, data, err := readReply(c)
		if err != nil {
			<-sent
			return got.String()
		}
		got.WriteString(packet(code, data))
	}
}
