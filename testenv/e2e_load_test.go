package testenv_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"rcpt-milter/testenv"
)

// The figures of the tests under load. They are small, so that the tests can run with
// all others; docs/testing.md has the commands for the large ones.
var (
	loadClients  = flag.Int("load.clients", 10, "clients of the tests of reload and restart under load")
	loadRounds   = flag.Int("load.rounds", 3, "reloads, and restarts, under load")
	loadPerRound = flag.Int("load.answers", 200, "answers between two reloads or restarts")
	loadDeadline = flag.Duration("load.deadline", testDeadline, "what one test under load may take at most")
)

// traffic is clients of mx that are at work all the time, and what they are told.
type traffic struct {
	address string
	ended   sync.WaitGroup
	stop    context.CancelFunc

	mu      sync.Mutex     // guards what follows
	answers int            // the right ones
	wrong   map[string]int // by what it was
	more    chan struct{}  // closed at the next answer
}

// traffic starts clients. Each asks about one who is known and one who is not, several
// times in a session, and begins a new one.
func (e *edge) traffic(clients int) *traffic {
	e.t.Helper()
	address, err := e.Address(e.ctx, testenv.MX, testenv.PortSMTP)
	e.must(err)
	ctx, stop := context.WithCancel(e.ctx)
	t := &traffic{address: address, stop: stop, wrong: map[string]int{}, more: make(chan struct{})}
	for n := range clients {
		t.ended.Go(func() {
			for ctx.Err() == nil {
				if err := t.session(ctx, fmt.Sprintf("203.0.113.%d", n+1)); err != nil && ctx.Err() == nil {
					t.note(err.Error(), false)
				}
			}
		})
	}
	e.t.Cleanup(func() { stop(); t.ended.Wait() })
	return t
}

// session is one SMTP session with a few transactions.
func (t *traffic) session(ctx context.Context, client string) error {
	session, err := testenv.DialSMTP(ctx, t.address)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.Open(client); err != nil {
		return err
	}
	for range 3 {
		for recipient, want := range map[string]int{"alice@corp.example": 250, "nobody@corp.example": 550} {
			reply, err := session.Ask(recipient)
			if err != nil {
				return err
			}
			if ctx.Err() == nil {
				t.note(recipient+": "+reply.String(), reply.Code() == want)
			}
		}
	}
	_, err = session.Do("QUIT")
	return err
}

func (t *traffic) note(what string, right bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !right {
		t.wrong[what]++
		return
	}
	t.answers++
	close(t.more)
	t.more = make(chan struct{})
}

// await waits for so many more right answers.
func (t *traffic) await(ctx context.Context, more int) error {
	t.mu.Lock()
	target := t.answers + more
	t.mu.Unlock()
	for {
		t.mu.Lock()
		answers, next := t.answers, t.more
		t.mu.Unlock()
		if answers >= target {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return errors.New("traffic stands still")
		}
	}
}

// end stops the clients and says what they got that they should not have got.
func (t *traffic) end(tb testing.TB) {
	tb.Helper()
	t.stop()
	t.ended.Wait()
	total := 0
	for _, what := range slices.Sorted(maps.Keys(t.wrong)) {
		total += t.wrong[what]
		tb.Errorf("%d times: %s", t.wrong[what], what)
	}
	tb.Logf("%d answers were right, %d were not", t.answers, total)
}

// TestReloadUnderLoad: a reload, also of a file that is no configuration, changes no
// answer and ends no session.
func TestReloadUnderLoad(t *testing.T) {
	e := require(t).in(t, *loadDeadline)
	load := e.traffic(*loadClients)
	for round := range *loadRounds {
		e.must(load.await(e.ctx, *loadPerRound))
		e.must(e.Configure(e.ctx, testenv.Overlay(fmt.Sprintf("refuse: [refused%d@corp.example]\naccept: [accepted%d@corp.example]\n", round, round))))
		e.reload(0)
		e.replies(fmt.Sprintf("accepted%d@corp.example", round), 250, "")
		e.must(e.WriteFile(e.ctx, testenv.Milter, testenv.ConfigFile, "domains: {corp.example: perhaps}\n"))
		e.reload(78)
		e.replies(fmt.Sprintf("accepted%d@corp.example", round), 250, "")
	}
	e.must(load.await(e.ctx, *loadPerRound))
	load.end(t)
}

// reload has the daemon read its configuration again.
func (e *edge) reload(status int) {
	e.t.Helper()
	out, err := e.RunMilter(e.ctx, "reload")
	e.must(err)
	if out.Status != status {
		e.t.Errorf("reload: exit status %d, want %d: %s", out.Status, status, strings.TrimSpace(out.Stderr+out.Stdout))
	}
}

// TestRestartUnderLoad: a daemon takes over from another, and back, and nobody is turned
// away. The next one is started first, and waits beside the socket of the old one until
// that stops.
func TestRestartUnderLoad(t *testing.T) {
	e := require(t).in(t, *loadDeadline)
	t.Cleanup(func() {
		if err := e.Leave(context.WithoutCancel(e.ctx), testenv.Successor); err != nil {
			t.Error(err)
		}
	})
	load := e.traffic(*loadClients)
	old, next := testenv.Milter, testenv.Successor
	for round := range 2 * *loadRounds { // an even number: the first daemon is the last
		e.must(load.await(e.ctx, *loadPerRound))
		if round == 0 {
			e.must(e.JoinOnly(e.ctx, next))
		} else {
			e.must(e.StartOnly(e.ctx, next))
		}
		e.must(testenv.AwaitNil(e.ctx, poll, func(ctx context.Context) error {
			out, err := e.Exec(ctx, testenv.MX, "test", "-S", socket+".next")
			if err == nil && out.Status != 0 {
				err = errors.New("the next daemon has no socket yet")
			}
			return err
		}))
		e.must(e.Stop(e.ctx, old))
		e.must(e.AwaitHealthy(e.ctx, next))
		old, next = next, old
	}
	e.must(load.await(e.ctx, *loadPerRound))
	load.end(t)
}
