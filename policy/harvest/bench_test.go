package harvest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/policy"
)

// BenchmarkHarvest measures the time of a decision with its charge, relative to the time without a limit. The
// two alternate, so a busy machine affects both. There are either many clients with few recipients each, or one
// client with a full sample.
func BenchmarkHarvest(b *testing.B) {
	for _, recipient := range []string{"user@enforce.test", "nobody@enforce.test"} {
		h := newHarvester(b)
		off, on := policyWith(b, nil), policyWith(b, h)
		b.Run(recipient+"/many clients", func(b *testing.B) { compare(b, off, on, recipient, 1<<10) })
		for i := range 10_000 {
			h.Charge(policy.Query{Client: clientOf(0), From: "from@client.test"},
				fmt.Sprintf("reader%d@enforce.test", i), false)
		}
		b.Run(recipient+"/sample full", func(b *testing.B) { compare(b, off, on, recipient, 1) })
		b.Run(recipient+"/parallel", func(b *testing.B) { inParallel(b, on, recipient) })
	}
}

// oneUser is a fresh index with only user@enforce.test.
type oneUser struct{}

func (oneUser) Lookup(a address.Address) (policy.Entry, error) {
	return policy.Entry{Known: a.String() == "user@enforce.test"}, nil
}

func (oneUser) Freshness(string) policy.Freshness { return policy.Freshness{State: policy.Fresh} }

func policyWith(b *testing.B, limit policy.HarvestLimit) *policy.Policy {
	b.Helper()
	p, err := policy.New(policy.Config{Index: oneUser{},
		Domains: map[string]policy.Mode{"enforce.test": policy.ModeEnforce}, Harvest: limit})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// compare runs two policies alternately and reports the median times of a recipient.
func compare(b *testing.B, off, on *policy.Policy, recipient string, clients int) {
	const each = 500
	q, n := policy.Query{Recipient: recipient, From: "from@client.test"}, 0
	turn := func(p *policy.Policy) float64 {
		began := time.Now()
		for range each {
			n++
			q.Client = clientOf(n % clients)
			p.Charge(q, p.Decide(context.Background(), q))
		}
		return float64(time.Since(began).Nanoseconds()) / each
	}
	var without, with []float64
	for b.Loop() {
		without, with = append(without, turn(off)), append(with, turn(on))
	}
	slices.Sort(without)
	slices.Sort(with)
	b.ReportMetric(without[len(without)/2], "ns-off")
	b.ReportMetric(with[len(with)/2], "ns-on")
	b.ReportMetric(with[len(with)/2]/without[len(without)/2], "on/off")
	b.ReportMetric(0, "ns/op")
}

// clientOf returns a client in the n-th of many /24 networks.
func clientOf(n int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|uint32(n)<<8|1)
	return netip.AddrFrom4(a)
}

func inParallel(b *testing.B, p *policy.Policy, recipient string) {
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		q := policy.Query{Recipient: recipient, From: "from@client.test"}
		for n := 0; pb.Next(); n++ {
			q.Client = clientOf(n % 1024)
			p.Charge(q, p.Decide(context.Background(), q))
		}
	})
}

// BenchmarkHarvestMemory measures the memory that an attack uses, and the time of a charge during the attack.
func BenchmarkHarvestMemory(b *testing.B) {
	for _, attack := range []struct {
		name           string
		networks, each int
		client         func(int) netip.Addr
	}{
		{"50 clients of 10,000 addresses", 50, 10_000, clientOf},
		{"50 clients below the ratio", 50, 10_000, clientOf},
		{"1,000,000 networks of 1 address", 1_000_000, 1, sixtyFour},
		{"100,000 networks of 10 addresses", 100_000, 10, sixtyFour},
	} {
		b.Run(attack.name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				h := newHarvester(b)
				h.cfg.Unknown = 20
				good := 0
				if attack.name == "50 clients below the ratio" {
					good = 2 // of three addresses
				}
				began := time.Now()
				for i := range attack.each {
					for n := range attack.networks {
						q := policy.Query{Client: attack.client(n), From: "from@client.test"}
						h.Charge(q, "guess"+strconv.Itoa(n)+"-"+strconv.Itoa(i)+"@enforce.test", i%3 >= good)
					}
				}
				took := time.Since(began)
				grown := heap() - before
				sum := h.Summary(1)
				b.ReportMetric(float64(took.Nanoseconds())/float64(attack.networks*attack.each), "ns/charge")
				b.ReportMetric(float64(grown), "heap-bytes")
				b.ReportMetric(float64(sum.Bytes), "counted-bytes")
				b.ReportMetric(float64(sum.Networks), "networks")
				b.ReportMetric(float64(sum.Limited), "limited")
			}
		})
	}
}
