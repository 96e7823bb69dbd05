package testenv_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// The sizes of the tests under load. They are small enough for a run with all other tests;
// docs/testing.md has the commands for the large ones.
var (
	loadClients  = flag.Int("load.clients", 10, "clients of the tests of reload and restart under load")
	loadRounds   = flag.Int("load.rounds", 3, "reloads, and restarts, under load")
	loadPerRound = flag.Int("load.answers", 100, "answers between two reloads or restarts")
	attackers    = flag.Int("attack.clients", 50, "clients that guess addresses, each of a network of its own")
	guesses      = flag.Int("attack.guesses", 1000, "addresses that they ask about, all together")
	loadDeadline = flag.Duration("load.deadline", 5*time.Minute, "what one test under load may take at most")
)

// traffic is a set of clients of mx that work all the time, and the replies that they get.
type traffic struct {
	address string
	ended   sync.WaitGroup
	stop    context.CancelFunc

	mu      sync.Mutex     // guards the fields below
	answers int            // number of right answers
	wrong   map[string]int // number of wrong answers, by reply
	more    chan struct{}  // closed at the next answer
}

// traffic starts clients. Each asks for a known and an unknown recipient several times in a
// session, then opens a new session.
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

// session runs one SMTP session with a few transactions.
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

// await waits for a number of further right answers.
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

// end stops the clients and reports the wrong answers.
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

// TestReloadUnderLoad: a reload changes no answer and ends no session. A reload of an invalid
// file does not either.
func TestReloadUnderLoad(t *testing.T) {
	e := require(t).in(t, *loadDeadline)
	load := e.traffic(*loadClients)
	for round := range *loadRounds {
		e.must(load.await(e.ctx, *loadPerRound))
		e.must(e.Configure(e.ctx, testenv.Overlay(fmt.Sprintf("refuse: [refused%d@corp.example]\naccept: "+
			"[accepted%d@corp.example]\n", round, round))))
		e.reload(0)
		e.replies(fmt.Sprintf("accepted%d@corp.example", round), 250, "")
		e.must(e.WriteFile(e.ctx, testenv.Milter, testenv.ConfigFile, "domains: {corp.example: perhaps}\n"))
		e.reload(78)
		e.replies(fmt.Sprintf("accepted%d@corp.example", round), 250, "")
	}
	e.must(load.await(e.ctx, *loadPerRound))
	load.end(t)
}

// reload makes the daemon read its configuration again.
func (e *edge) reload(status int) {
	e.t.Helper()
	out, err := e.RunMilter(e.ctx, "reload")
	e.must(err)
	if out.Status != status {
		e.t.Errorf("reload: exit status %d, want %d: %s", out.Status, status, strings.TrimSpace(out.Stderr+out.Stdout))
	}
}

// TestRestartUnderLoad: one daemon takes over from another and back, and no client is
// rejected. The next daemon starts first and waits beside the socket until the old one stops.
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

// TestAttack: many networks guess addresses while an honest client sends mail.
func TestAttack(t *testing.T) {
	e := require(t).in(t, *loadDeadline)
	const limit = 10
	e.must(e.Stop(e.ctx, testenv.Milter))
	e.must(e.Configure(e.ctx, testenv.Overlay(fmt.Sprintf("harvest: {unknown: %d, ratio: 0.8, reply: hangup}\n",
		limit))))
	e.must(e.Start(e.ctx, testenv.Milter))
	_, err := e.AwaitFresh(e.ctx)
	e.must(err)
	address, err := e.Address(e.ctx, testenv.MX, testenv.PortSMTP)
	e.must(err)

	before := honest(e, address, func(asked int) bool { return asked < 200 })
	memory := e.memory()
	got := make([]guessed, *attackers)
	var attack sync.WaitGroup
	for n := range *attackers {
		attack.Go(func() { got[n] = guess(e.ctx, address, fmt.Sprintf("100.64.%d.%d", n, n+1), *guesses / *attackers) })
	}
	over := make(chan struct{})
	go func() { attack.Wait(); close(over) }()
	during := honest(e, address, func(int) bool {
		select {
		case <-over:
			return false
		default:
			return true
		}
	})
	all := map[int]int{}
	for n, g := range got {
		for code, times := range g.codes {
			all[code] += times
		}
		if g.err != nil || g.codes[550] != min(limit, *guesses / *attackers) ||
			g.codes[550]+g.codes[421] != *guesses / *attackers {
			t.Errorf("network %d got %v (%v), want %d times 550 and 421 for all others", n, g.codes, g.err, limit)
		}
	}
	t.Logf("%d networks got %v", *attackers, all)
	t.Logf("an honest client's RCPT without the attack: %s; with it: %s", before, during)
	t.Logf("the daemon's own part of that, RCPT by seconds at most:%s", e.decisions())
	t.Logf("memory of the daemon before: %d KiB, after: %d KiB", memory>>10, e.memory()>>10)
}

// honest asks for known recipients in one session after another. It returns how long the
// answers took.
func honest(e *edge, address string, more func(asked int) bool) latencies {
	e.t.Helper()
	var took latencies
	for n := 1; more(len(took)); n++ {
		session, err := testenv.DialSMTP(e.ctx, address)
		e.must(err)
		e.must(session.Open("203.0.113.200"))
		for range 20 {
			reply, err := session.Do("MAIL FROM:<sender@elsewhere.example>")
			if err == nil && reply.Code() == 250 {
				start := time.Now()
				if reply, err = session.Do("RCPT TO:<alice@corp.example>"); err == nil {
					took = append(took, time.Since(start))
				}
			}
			if err != nil || reply.Code() != 250 {
				e.t.Errorf("the honest client got %q (%v), want 250", reply, err)
			}
			_, err = session.Do("RSET")
			e.must(err)
		}
		session.Close()
	}
	return took
}

// guessed are the replies to a network, by code, and the error that ended its attempts.
type guessed struct {
	codes map[int]int
	err   error
}

// guess asks for invented addresses, with a new session after each 421.
func guess(ctx context.Context, address, client string, number int) guessed {
	got := guessed{codes: map[int]int{}}
	var session *testenv.Session
	defer func() {
		if session != nil {
			session.Close()
		}
	}()
	for n := range number {
		if session == nil {
			if session, got.err = testenv.DialSMTP(ctx, address); got.err != nil {
				return got
			}
			if got.err = session.Open(client); got.err != nil {
				return got
			}
		}
		var reply testenv.Reply
		if reply, got.err = session.Ask(fmt.Sprintf("guess.%s.%d@corp.example", client, n)); got.err != nil {
			return got
		}
		if got.codes[reply.Code()]++; reply.Code() == 421 {
			session.Close()
			session = nil
		}
	}
	return got
}

// latencies are the response times.
type latencies []time.Duration

func (l latencies) String() string {
	if len(l) == 0 {
		return "none"
	}
	sorted := slices.SortedFunc(slices.Values(l), cmp.Compare)
	at := func(share float64) time.Duration {
		return sorted[int(share*float64(len(sorted)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("median %v, p99 %v, worst %v of %d", at(0.5), at(0.99), at(1), len(l))
}

// decisions returns how many RCPT the daemon has answered within a number of seconds, since
// its start.
func (e *edge) decisions() string {
	e.t.Helper()
	address, err := e.Address(e.ctx, testenv.Milter, 9417)
	e.must(err)
	_, body, err := get(e.ctx, "http://"+address+"/metrics")
	e.must(err)
	var text strings.Builder
	for line := range strings.Lines(body) {
		if bucket, found := strings.CutPrefix(line, "rcpt_milter_decision_seconds_bucket{le="); found {
			text.WriteString(" " + strings.TrimSpace(bucket))
		}
	}
	return text.String()
}

// memory returns the daemon's resident memory in bytes.
func (e *edge) memory() int {
	e.t.Helper()
	text, err := e.ReadFile(e.ctx, testenv.Milter, "/proc/1/status")
	e.must(err)
	var kib int
	_, rest, _ := strings.Cut(text, "VmRSS:")
	_, err = fmt.Sscan(rest, &kib)
	e.must(err)
	return kib << 10
}
