package milter

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gomilter "github.com/emersion/go-milter"

	"rcpt-milter/policy"
	"rcpt-milter/policy/harvest"
)

const (
	attackers = 50
	guesses   = 200   // per client; 10,000 in total
	readers   = 2_000 // recipients of a legitimate list; every tenth has left
)

// BenchmarkAttack lets 50 clients guess 10,000 addresses over a unix socket, as fast as they are answered,
// while a legitimate client sends to a long list. It reports the replies to each, how long the legitimate
// client waits for a reply with and without the attack, and the heap before and after. After a 421, the
// attacker's connection is closed, as Postfix does, and the attacker reconnects.
func BenchmarkAttack(b *testing.B) {
	for _, limited := range []bool{false, true} {
		b.Run(fmt.Sprintf("limit=%t", limited), func(b *testing.B) {
			for b.Loop() {
				attack(b, limited)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func attack(b *testing.B, limited bool) {
	h, err := harvest.New(harvest.Config{Memory: harvest.NewMemory(), Unknown: 20, Ratio: 0.8, Window: time.Hour,
		Penalty: time.Hour, IPv4: 24, IPv6: 64})
	if err != nil {
		b.Fatal(err)
	}
	r := serve(b, "unix", func(cfg *ServerConfig) {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		cfg.Policy = testPolicy(b, func(cfg *policy.Config) {
			for i := range readers {
				if i%10 > 0 {
					cfg.Index.(*fakeIndex).entries[reader(i)] = policy.Entry{Known: true}
				}
			}
			if limited {
				cfg.Harvest = h
			}
		})
	})
	before := heap()
	quiet := newHonest()
	quiet.send(b, r, nil)
	stop := make(chan struct{})
	busy := newHonest()
	var honest, attacking sync.WaitGroup
	honest.Go(func() { busy.send(b, r, stop) })
	replies := make([]map[string]int, attackers)
	began := time.Now()
	for n := range attackers {
		attacking.Go(func() { replies[n] = guessAll(b, r, n) })
	}
	attacking.Wait()
	took := time.Since(began)
	close(stop)
	honest.Wait()
	for code, n := range sum(replies) {
		b.ReportMetric(float64(n), "attacker-"+code)
	}
	for code, n := range busy.replies {
		b.ReportMetric(float64(n), "honest-"+code)
	}
	quiet.report(b, "quiet")
	busy.report(b, "attacked")
	b.ReportMetric(float64(attackers*guesses)/took.Seconds(), "guesses/s")
	b.ReportMetric(float64(before)/(1<<20), "MiB-before")
	b.ReportMetric(float64(heap())/(1<<20), "MiB-after")
	runtime.KeepAlive(h)
}

func reader(i int) string { return fmt.Sprintf("reader%d@enforce.test", i) }

// askAs sends a RCPT as a client in a network, and returns the code of the reply.
func askAs(b *testing.B, s *gomilter.ClientSession, client netip.Addr, recipient string) string {
	err := s.Macros(gomilter.CodeRcpt, "{rcpt_addr}", recipient, "{client_addr}", client.String(), "{mail_addr}",
		"from@client.test")
	if err != nil {
		b.Error(err)
		return "error"
	}
	action, err := s.Rcpt(recipient, nil)
	switch {
	case err != nil:
		b.Error(err)
		return "error"
	case action.Code == gomilter.ActContinue:
		return "continue"
	}
	return itoa(action.SMTPCode)
}

// guessAll runs one attacker.
func guessAll(b *testing.B, r *running, n int) map[string]int {
	replies := map[string]int{}
	s := r.session(b)
	for i := range guesses {
		code := askAs(b, s, clientOf(n), fmt.Sprintf("made.up%d@enforce.test", n*guesses+i))
		if replies[code]++; strings.HasPrefix(code, "421") {
			s.Close()
			s = r.session(b)
		}
	}
	s.Close()
	return replies
}

func sum(all []map[string]int) map[string]int {
	total := map[string]int{}
	for _, one := range all {
		for code, n := range one {
			total[code] += n
		}
	}
	return total
}

// honest is the legitimate sender to a list.
type honest struct {
	replies map[string]int
	waited  []time.Duration
}

func newHonest() *honest { return &honest{replies: map[string]int{}} }

// send repeatedly sends to the whole list, with 100 recipients per message, until stop is closed. It pauses
// after each recipient to simulate the network.
func (c *honest) send(b *testing.B, r *running, stop <-chan struct{}) {
	s := r.session(b)
	defer s.Close()
	pause := time.NewTicker(200 * time.Microsecond)
	defer pause.Stop()
	for i := 0; ; i++ {
		if stop == nil && i == readers {
			return
		}
		select {
		case <-stop:
			return
		case <-pause.C:
		}
		began := time.Now()
		code := askAs(b, s, netip.MustParseAddr("198.51.100.1"), reader(i%readers))
		c.waited = append(c.waited, time.Since(began))
		c.replies[code]++
		if i%100 == 99 {
			if err := s.Abort(); err != nil {
				b.Error(err)
			}
		}
	}
}

func (c *honest) report(b *testing.B, when string) {
	slices.Sort(c.waited)
	at := func(part float64) float64 {
		return float64(c.waited[int(part*float64(len(c.waited)-1))].Microseconds())
	}
	b.ReportMetric(at(0.5), "µs-"+when+"-median")
	b.ReportMetric(at(0.99), "µs-"+when+"-p99")
}

// heap returns the size of the heap after a garbage collection.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// clientOf returns a client in the n-th of many /24 networks.
func clientOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}) }
