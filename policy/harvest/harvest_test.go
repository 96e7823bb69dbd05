package harvest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"rcpt-milter/internal/clock"
	"rcpt-milter/policy"
)

// now is the start time of a harvester.
var now = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// harvester tries addresses from several networks, with its own clock.
type harvester struct {
	*Limit
	t   testing.TB
	now time.Time
	log bytes.Buffer
}

func newHarvester(t testing.TB) *harvester { return newHarvesterIn(t, NewMemory()) }

func newHarvesterIn(t testing.TB, memory *Memory) *harvester {
	h := &harvester{t: t, now: now}
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	var err error
	h.Limit, err = New(Config{
		Memory: memory, Unknown: 5, Ratio: 0.8, Window: time.Hour, Penalty: 30 * time.Minute, IPv4: 24, IPv6: 64,
		NAT64: policy.Translators{policy.WellKnownNAT64}, Logger: log, Now: func() time.Time { return h.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask charges a client for one address. It reports whether the client reached the limit by it.
func (h *harvester) ask(client, recipient string, unknown bool) bool {
	h.t.Helper()
	q := policy.Query{Client: netip.MustParseAddr(client), From: "from@client.test"}
	before := h.Limited(q)
	h.Charge(q, recipient, unknown)
	return !before && h.Limited(q)
}

// guess tries n invented addresses.
func (h *harvester) guess(client, prefix string, n int) (over bool) {
	h.t.Helper()
	for i := range n {
		over = h.ask(client, fmt.Sprintf("%s%d@corp.example", prefix, i), true) || over
	}
	return over
}

func (h *harvester) isLimited(client string) bool {
	return h.Limited(policy.Query{Client: netip.MustParseAddr(client), From: "from@client.test"})
}

func TestLimit(t *testing.T) {
	h := newHarvester(t)
	if h.guess("192.0.2.1", "a", 4) || h.isLimited("192.0.2.1") {
		t.Error("limited after 4 addresses, with a limit of 5")
	}
	for range 100 { // the same misspelt address, again and again
		if h.ask("192.0.2.1", "a3@corp.example", true) {
			t.Fatal("limited for asking about one address again")
		}
	}
	if !h.ask("192.0.2.77", "fifth@corp.example", true) {
		t.Error("not over the limit after 5 addresses from one network")
	}
	for client, want := range map[string]bool{"192.0.2.1": true, "192.0.2.200": true, "::ffff:192.0.2.3": true,
		"192.0.3.1": false, "2001:db8::1": false} {
		if got := h.isLimited(client); got != want {
			t.Errorf("limited(%s) = %t, want %t", client, got, want)
		}
	}
	h.now = h.now.Add(30*time.Minute - time.Second)
	if !h.isLimited("192.0.2.1") {
		t.Error("not limited any more a second before the penalty is over")
	}
	h.now = h.now.Add(time.Second)
	if h.isLimited("192.0.2.1") {
		t.Error("still limited when the penalty is over")
	}
	// Counting starts from zero: earlier attempts no longer count.
	if h.guess("192.0.2.1", "a", 4) {
		t.Error("limited for less than the limit after the penalty")
	}
	if !h.guess("192.0.2.1", "b", 1) {
		t.Error("not limited for as much as the limit after the penalty")
	}
}

func TestLogs(t *testing.T) {
	h := newHarvester(t)
	h.ask("192.0.2.1", "info@corp.example", false)
	h.guess("192.0.2.1", "a", 9)
	const want = `level=WARN msg="network goes over the harvest limit" network=192.0.2.0/24 ` +
		`client=unknown[192.0.2.1] bounces=false unknown=5 recipients=6 until=2024-05-01T12:30:00.000Z` + "\n"
	if got := h.log.String(); got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}

// TestNoAddress checks that a client without an IP address is in no network.
func TestNoAddress(t *testing.T) {
	h := newHarvester(t)
	for i := range 100 {
		q := policy.Query{From: "from@client.test", Nth: i}
		h.Charge(q, fmt.Sprintf("made-up%d@corp.example", i), true)
		if h.Limited(q) {
			t.Fatalf("%+v is limited", q)
		}
	}
	if sum := h.Summary(1); sum.Networks != 0 {
		t.Errorf("%d networks are remembered", sum.Networks)
	}
}

func TestConfig(t *testing.T) {
	nan := math.NaN()
	for want, change := range map[string]func(*Config){
		"harvest limit: no memory":                                                  func(c *Config) { c.Memory = nil },
		"harvest limit: unknown must be at least 1, got 0":                          func(c *Config) { c.Unknown = 0 },
		"harvest limit: ratio must be between 0 and 1, got NaN":                     func(c *Config) { c.Ratio = nan },
		"harvest limit: ratio must be between 0 and 1, got 80":                      func(c *Config) { c.Ratio = 80 },
		"harvest limit: window and penalty must be positive":                        func(c *Config) { c.Window = 0 },
		"harvest limit: invalid prefix lengths of networks: /33 (IPv4), /64 (IPv6)": func(c *Config) { c.IPv4 = 33 },
		"harvest limit: invalid prefix lengths of networks: /24 (IPv4), /0 (IPv6)":  func(c *Config) { c.IPv6 = 0 },
		"harvest limit: invalid prefix length of sites: /129":                       func(c *Config) { c.Site = 129 },
	} {
		cfg := newHarvester(t).cfg
		change(&cfg)
		if _, err := New(cfg); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// TestPenaltyEnds: a deferred client retries the same addresses. Nothing is counted during its penalty, so the
// client gets all its answers in the end.
func TestPenaltyEnds(t *testing.T) {
	h := newHarvester(t)
	waiting := 23 // addresses of a legitimate client; none exists
	for rounds := 0; waiting > 0; rounds++ {
		if rounds > 10 {
			t.Fatalf("%d addresses without an answer after %d penalties", waiting, rounds)
		}
		for i := range waiting {
			if h.isLimited("192.0.2.1") {
				h.ask("192.0.2.1", fmt.Sprintf("typo%d@corp.example", i), true)
				continue
			}
			h.ask("192.0.2.1", fmt.Sprintf("typo%d@corp.example", i), true)
			waiting--
		}
		h.now = h.now.Add(h.cfg.Penalty)
	}
}

func TestRatio(t *testing.T) {
	h := newHarvester(t)
	for i := range 200 {
		h.ask("192.0.2.1", fmt.Sprintf("reader%d@corp.example", i), false)
	}
	if h.guess("192.0.2.1", "left", 30) {
		t.Error("the sender to a list of 200 is limited for 30 that left")
	}
	for range 1000 { // repeating one valid address earns no credit
		h.ask("198.51.100.1", "info@corp.example", false)
	}
	if !h.guess("198.51.100.1", "x", 5) {
		t.Error("not limited: one good address that is repeated passes for many")
	}
}

func TestWindow(t *testing.T) {
	h := newHarvester(t)
	for i := range 50 { // one misspelt address every 15 minutes
		if h.ask("192.0.2.1", fmt.Sprintf("typo%d@corp.example", i), true) {
			t.Fatalf("limited at typo %d, of which 4 are in a window", i)
		}
		h.now = h.now.Add(15 * time.Minute)
	}
}

// TestClockSetBack checks that a clock set back by hours or years limits no network for longer than the
// penalty.
func TestClockSetBack(t *testing.T) {
	for _, back := range []time.Duration{2 * time.Minute, 48 * time.Hour} {
		t.Run(back.String(), func(t *testing.T) {
			h := newHarvester(t)
			h.guess("192.0.2.1", "a", 5)
			h.guess("198.51.100.1", "b", 4)
			h.now = h.now.Add(-back)
			if h.isLimited("192.0.2.1") {
				t.Error("limited by a penalty that begins in the future")
			}
			if h.guess("198.51.100.1", "c", 1) {
				t.Error("attempts in the future count")
			}
		})
	}
	h := newHarvester(t)
	h.guess("192.0.2.1", "a", 5)
	h.now = h.now.Add(-clock.Slack)
	if !h.isLimited("192.0.2.1") {
		t.Error("a small correction of the clock ends the penalty")
	}
}

func TestNetwork(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.1":              "192.0.2.0/24",
		"::ffff:192.0.2.1":       "192.0.2.0/24",
		"64:ff9b::192.0.2.1":     "192.0.2.0/24",
		"2001:db8:1:2:3:4:5:6":   "2001:db8:1:2::/64",
		"fe80::1%eth0":           "fe80::/64",
		"64:ff9b:1::192.0.2.1":   "64:ff9b:1::/64",
		"255.255.255.255":        "255.255.255.0/24",
		"::1":                    "::/64",
		"ffff:ffff:ffff:ffff::1": "ffff:ffff:ffff:ffff::/64",
	} {
		if got, ok := newHarvester(t).network(netip.MustParseAddr(client)); !ok || got.String() != want {
			t.Errorf("network(%s) = %s, %t, want %s", client, got, ok, want)
		}
	}
	if got, ok := newHarvester(t).network(netip.Addr{}); ok {
		t.Errorf("a client without an address is in network %s", got)
	}
}

// TestSettingsChange checks that new settings apply to existing counts.
func TestSettingsChange(t *testing.T) {
	h := newHarvester(t)
	h.guess("192.0.2.1", "a", 5)
	h.cfg.Penalty = time.Hour
	h.now = h.now.Add(45 * time.Minute)
	if !h.isLimited("192.0.2.1") {
		t.Error("not limited after 45 minutes, with the penalty raised to an hour")
	}
	h.cfg.Penalty = 40 * time.Minute
	if h.isLimited("192.0.2.1") {
		t.Error("limited after 45 minutes, with the penalty lowered to 40")
	}
	h.guess("198.51.100.1", "a", 4)
	h.cfg.Unknown = 4
	if !h.guess("198.51.100.1", "b", 1) {
		t.Error("not over the lowered limit")
	}
	h.cfg.IPv4 = 32
	if h.isLimited("198.51.100.1") {
		t.Error("another length of network finds the old one")
	}
}

// sixtyFour returns a client in the n-th of many /64 networks.
func sixtyFour(n int) netip.Addr {
	var a [16]byte
	a[0], a[1] = 0x20, 0x01
	binary.BigEndian.PutUint32(a[4:], uint32(n))
	return netip.AddrFrom16(a)
}

// floodBytes is the limit of a Memory that a test floods: a sixteenth of the real limit.
const floodBytes = MaxBytes / 16

// flood lets many networks try an address or two each.
func (h *harvester) flood(from, networks int, each func(i int)) {
	random := rand.New(rand.NewPCG(uint64(from), 7))
	for i := range networks {
		q := policy.Query{Client: sixtyFour(from + i), From: "from@client.test"}
		h.Charge(q, strconv.FormatUint(random.Uint64(), 36), true)
		if i%3 == 0 {
			h.Charge(q, strconv.FormatUint(random.Uint64(), 36), true)
		}
		each(i)
	}
}

// TestFlood checks that during a flood of networks, the memory stays within its limit, a limited network stays
// limited, a legitimate client keeps its credit, and a client that guesses is limited.
func TestFlood(t *testing.T) {
	h := newHarvester(t)
	before := heap()
	h.cfg.Memory = newMemory(floodBytes)
	h.guess("192.0.2.1", "a", 5)
	for i := range 300 {
		h.ask("198.51.100.1", fmt.Sprintf("reader%d@corp.example", i), false)
	}
	caught := false
	h.flood(0, 60_000, func(i int) {
		if i%600 == 0 {
			caught = h.ask("203.0.113.9", fmt.Sprintf("guess%d@corp.example", i), true) || caught
		}
	})
	grown := heap() - before
	sum := h.Summary(10)
	t.Logf("%d networks remembered in %d bytes, the heap has grown by %d", sum.Networks, sum.Bytes, grown)
	if sum.Bytes > floodBytes || grown > floodBytes {
		t.Errorf("%d bytes counted, %d grown, want at most %d", sum.Bytes, grown, floodBytes)
	}
	if !h.isLimited("192.0.2.1") {
		t.Error("the flood has freed a network that was limited")
	}
	if h.guess("198.51.100.1", "left", 20) {
		t.Error("the flood has cost an honest client its credit")
	}
	if !caught {
		t.Error("a client that guesses slowly during the flood is never limited")
	}
	h.wantSound()
}

// TestForgets checks that networks without recent attempts are removed before the memory is full.
func TestForgets(t *testing.T) {
	h := newHarvester(t)
	h.flood(0, 40_000, func(i int) {
		if i%1000 == 0 {
			h.now = h.now.Add(h.cfg.Window / 5)
		}
	})
	if sum := h.Summary(10); sum.Networks > 15_000 {
		t.Errorf("%d networks remembered, where 5,000 have asked within the window", sum.Networks)
	}
	h.wantSound()
}

// heap returns the size of the live heap.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// wantSound checks the internal consistency of the memory.
func (h *harvester) wantSound() {
	h.t.Helper()
	for i := range h.cfg.Memory.shards {
		s := &h.cfg.Memory.shards[i]
		bytes := 0
		for place, r := range s.list {
			bytes += r.bytes()
			if r.place != place || s.records[r.account] != r {
				h.t.Fatalf("network %s is not where it should be", r.network)
			}
		}
		if bytes != s.bytes || len(s.records) != len(s.list) {
			h.t.Fatalf("shard %d: %d bytes counted, %d there; %d records, %d listed", i, s.bytes, bytes, len(s.records),
				len(s.list))
		}
	}
}

// TestConcurrently runs many sessions concurrently with readers of the summary.
func TestConcurrently(t *testing.T) {
	h := newHarvester(t)
	var running sync.WaitGroup
	for g := range 8 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 9))
			for range 3000 {
				q := policy.Query{Client: sixtyFour(random.IntN(50)), From: "from@client.test"}
				h.Charge(q, strconv.FormatUint(random.Uint64(), 36), random.IntN(2) == 0)
				h.Limited(q)
				h.State(q.Client)
			}
		})
	}
	running.Go(func() {
		for range 20 {
			h.Summary(5)
		}
	})
	running.Wait()
	h.wantSound()
}

func TestSummary(t *testing.T) {
	h := newHarvester(t)
	for i := range 30 {
		h.guess(fmt.Sprintf("10.0.%d.1", i), "a", 5)
		h.now = h.now.Add(time.Second)
	}
	h.guess("192.0.2.1", "b", 3)
	sum := h.Summary(4)
	if sum.Networks != 31 || sum.Limited != 30 || len(sum.Longest) != 4 {
		t.Fatalf("summary = %+v", sum)
	}
	want := State{Network: netip.MustParsePrefix("10.0.29.0/24"), Unknown: 5,
		Until: now.Add(29*time.Second + h.cfg.Penalty).Local()}
	if sum.Longest[0] != want {
		t.Errorf("limited for longest: %+v, want %+v", sum.Longest[0], want)
	}
	network := netip.MustParsePrefix("192.0.2.0/24")
	if got, ok := h.State(netip.MustParseAddr("192.0.2.9")); !ok || got != (State{Network: network, Unknown: 3,
		Recipients: 3}) {
		t.Errorf("state = %+v, %t", got, ok)
	}
}
