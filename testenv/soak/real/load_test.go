package real

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// serveSMTP is a server that answers each RCPT by its local part, as in "550-name".
func serveSMTP(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "220 test\r\n")
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					code := "250"
					if recipient, found := strings.CutPrefix(lines.Text(), "RCPT TO:<"); found {
						code, _, _ = strings.Cut(recipient, "-")
					}
					fmt.Fprintf(conn, "%s answer\r\n", code)
					if code == "421" {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestWrongAnswers: a transaction with right and wrong answers. Each wrong one is counted and printed
// with what reproduces it.
func TestWrongAnswers(t *testing.T) {
	var out bytes.Buffer
	s := newSoak(t, 42)
	s.report = newReport(&out)
	s.rulesText.Store("rules")
	s.explain = func(context.Context, *site, string) (lookup, journal []string) {
		return []string{"looked up"}, []string{"in the journal"}
	}
	oracle := s.sites[0].oracle
	s.sites[0].address.Store(serveSMTP(t))
	before := time.Now().Add(-time.Second)
	for address, state := range map[string]State{"250-valid": Valid, "451-valid": Valid, "550-valid": Valid,
		"250-changing": Changing, "550-changing": Changing, "250-gone": Gone, "550-gone": Gone} {
		oracle.Set(address+"@corp.example", state, before, "made "+state.String())
	}
	s.report.fault("begins: a fault of the test", "test")
	asked := []string{"250-valid", "451-valid", "550-valid", "250-changing", "550-changing", "250-gone", "550-gone",
		"250-never", "550-never", "450-never", "421-never"}
	next := 0
	c := &client{name: "honest0", site: s.sites[0], rnd: s.random("test"), batch: len(asked) + 1,
		recipient: func() string { next++; return append(asked, "550-lost")[next-1] + "@corp.example" }}
	session, err := testenv.DialSMTP(t.Context(), s.sites[0].smtp())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Open(""); err != nil {
		t.Fatal(err)
	}
	if more, err := s.transaction(c, session); more || err != nil {
		t.Errorf("transaction() = %t, %v, want false, nil after 421", more, err)
	}
	s.background.Wait()
	if s.report.asked != len(asked) || s.report.lostAny != 1 || s.report.wrong != 3 {
		t.Errorf("%d answers, %d lost, %d wrong, want %d, 1, 3", s.report.asked, s.report.lostAny, s.report.wrong,
			len(asked))
	}
	for _, want := range []string{`"550 answer" to 550-valid@corp.example`, `"250 answer" to 250-gone@corp.example`,
		`"250 answer" to 250-never@corp.example`, "seed 42", "made valid", "never existed",
		"begins: a fault of the test",
		"looked up", "in the journal"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, out.String())
		}
	}
	if got := s.report.summary(); !strings.Contains(got, "WRONG ANSWERS: 3") || !strings.Contains(got, "test: 1") {
		t.Errorf("summary:\n%s", got)
	}
}

// TestSessionsEnd: a client asks at its rate and stops with the context.
func TestSessionsEnd(t *testing.T) {
	s := newSoak(t, 1)
	s.sites[0].address.Store(serveSMTP(t))
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	c := &client{name: "honest0", site: s.sites[0], rnd: s.random("test"), rate: 1e6, batch: 10, transactions: 3,
		address: func() string { return "" }, recipient: func() string {
			if asked++; asked == 100 {
				cancel()
			}
			return "550-never@corp.example"
		}}
	s.work(ctx, c)
	if s.report.asked < 80 || s.report.wrong != 0 {
		t.Errorf("%d answers, %d wrong, want about 100 and 0", s.report.asked, s.report.wrong)
	}
}
