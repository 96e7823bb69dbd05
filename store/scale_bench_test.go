package store

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
)

var (
	scaleAddresses = flag.Int("addresses", 20_000, "addresses in the store of BenchmarkScale")
	scaleDir       = flag.String("scale-dir", "", "where BenchmarkScale keeps its store for the next run")
)

// scaleAddress returns the n-th address of BenchmarkScale: each object has two of them.
func scaleAddress(t testing.TB, n int) address.Address {
	if n%2 == 1 {
		return mustParse(t, fmt.Sprintf("u%07d@corp.example", n/2))
	}
	names := []string{"anna", "bert", "carla", "dimitri", "elena", "farid", "grace", "hiro", "ines", "jonas"}
	return mustParse(t, fmt.Sprintf("%s.%s%d@site%d.example", names[n/2%10], names[n/20%10], n/2, n/2%50))
}

func fillScale(b *testing.B, s *Store, n int) {
	p, err := s.Begin("corp", Full, Origin{Controller: "dc1.corp.example", Database: "d1", Started: start})
	if err != nil {
		b.Fatal(err)
	}
	ids := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < n/2; {
		var page []Object
		for ; len(page) < 1000 && i < n/2; i++ {
			o := Object{DN: fmt.Sprintf("CN=User %d,OU=Site %d,OU=People,DC=corp,DC=example", i, i%50), Class: "user",
				USN: uint64(10_000 + i)}
			for j := range o.GUID {
				o.GUID[j] = byte(ids.Uint32())
			}
			for j := range 2 {
				o.Addresses = append(o.Addresses, Owned{Address: scaleAddress(b, 2*i+j), Attribute: "proxyAddresses"})
			}
			page = append(page, o)
		}
		if _, err := p.Apply(page); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkScale measures a store of -addresses addresses: how long it takes to open, its bytes
// on disk and in memory, and lookups in random order.
func BenchmarkScale(b *testing.B) {
	dir := *scaleDir
	if dir == "" {
		dir = b.TempDir()
	}
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); err != nil {
		s := open(b, Config{Dir: dir})
		fillScale(b, s, *scaleAddresses)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	before := rss(b)
	began := time.Now()
	s := open(b, Config{Dir: dir})
	opened := time.Since(began)
	disk := used(b, s)
	ask := func(b *testing.B, known bool) {
		random := rand.New(rand.NewPCG(3, 4))
		var asked []address.Address
		for range 20_000 {
			a := scaleAddress(b, random.IntN(*scaleAddresses))
			if !known {
				a = mustParse(b, "x"+a.String())
			}
			asked = append(asked, a)
		}
		var took []time.Duration
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			begin := time.Now()
			got, err := s.Lookup(asked[i%len(asked)])
			took = append(took, time.Since(begin))
			if err != nil || got.Known != known {
				b.Fatal(asked[i%len(asked)], got, err)
			}
		}
		slices.Sort(took)
		at := func(part float64) float64 { return float64(took[int(part*float64(len(took)-1))].Nanoseconds()) / 1e3 }
		b.ReportMetric(at(0.5), "p50-µs")
		b.ReportMetric(at(0.99), "p99-µs")
		b.ReportMetric(at(0.999), "p99.9-µs")
	}
	b.Run("known", func(b *testing.B) { ask(b, true) })
	b.Run("unknown", func(b *testing.B) { ask(b, false) })
	b.Run("size", func(b *testing.B) {
		runtime.GC()
		b.ReportMetric(opened.Seconds(), "s-open")
		b.ReportMetric(float64(disk)/float64(s.Totals().Addresses), "disk-B/address")
		b.ReportMetric(float64(rss(b)-before)/(1<<20), "MiB-resident")
		b.ReportMetric(0, "ns/op")
	})
}

// rss returns how many bytes of this process are in memory, the mapped files excluded.
func rss(b *testing.B) (bytes int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &bytes); n == 1 {
			return bytes << 10
		}
	}
	b.Fatal("no RssAnon in the status")
	return 0
}
