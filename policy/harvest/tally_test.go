package harvest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestTallyIsExactWhileItIsSmall checks that counts up to the size of the sample are exact, with repeated
// attempts in any order and with addresses leaving the window.
func TestTallyIsExactWhileItIsSmall(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		const window = 100 * time.Second
		var sample tally
		type truth struct {
			at      uint32
			unknown bool
		}
		hashes := make([]uint64, sampleSize)
		for i := range hashes {
			hashes[i] = random.Uint64()
		}
		asked := map[uint64]truth{}
		now := uint32(1_700_000_000)
		for range 2000 {
			now += uint32(random.IntN(3))
			hash := hashes[random.IntN(len(hashes))]
			unknown := random.IntN(4) > 0
			before := counted{}
			after := counted{}
			for h, a := range asked {
				if now-a.at >= 100 {
					delete(asked, h)
					continue
				}
				before.add(truthful(a.unknown))
			}
			asked[hash] = truth{now, unknown}
			for _, a := range asked {
				after.add(truthful(a.unknown))
			}
			got, grew := sample.note(hash, unknown, now, window)
			if got != after || grew != (after.unknown > before.unknown) {
				t.Fatalf("seed %d: note = %+v, %t, want %+v, %t", seed, got, grew, after,
					after.unknown > before.unknown)
			}
		}
	}
}

func truthful(unknown bool) entry { return entry{unknown: unknown} }

// TestTallyOfMany checks that larger counts, and their ratio, are estimated closely from a sample of limited
// size.
func TestTallyOfMany(t *testing.T) {
	const window, now = time.Hour, 1_700_000_000
	for _, n := range []int{200, 1000, 30_000} {
		var off, ratioOff float64
		const rounds = 20
		for seed := range uint64(rounds) {
			random := rand.New(rand.NewPCG(seed, 1))
			var sample tally
			var got counted
			for i := range n {
				if c, _ := sample.note(random.Uint64(), i%4 == 0, now, window); len(sample.entries) > sampleSize {
					t.Fatalf("%d addresses in a sample", len(sample.entries))
				} else {
					got = c
				}
			}
			off += math.Abs(float64(got.all)/float64(n) - 1)
			ratioOff += math.Abs(float64(got.unknown)/float64(got.all) - 0.25)
		}
		if off /= rounds; off > 0.2 {
			t.Errorf("of %d addresses the count is off by %.0f %% on the average", n, 100*off)
		}
		if ratioOff /= rounds; ratioOff > 0.1 {
			t.Errorf("of %d addresses the ratio is off by %.2f on the average", n, ratioOff)
		}
	}
}

// TestTallyAfterAFlood checks that once a flood has left the window, it has no effect on later counts.
func TestTallyAfterAFlood(t *testing.T) {
	var sample tally
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		sample.note(random.Uint64(), false, 1000, time.Minute)
	}
	var got counted
	for range 20 {
		got, _ = sample.note(random.Uint64(), true, 1060, time.Minute)
	}
	if want := (counted{unknown: 20, all: 20, sampled: 20}); got != want {
		t.Errorf("after the flood %+v, want %+v", got, want)
	}
}

// TestTallyKeepsCredit: a legitimate sender to a long list reaches a few recipients that have left. The part of
// the list that is still in the window must count for as many addresses as it was sampled from.
func TestTallyKeepsCredit(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		var sample tally
		for i := range 50_000 { // over 50 minutes
			sample.note(random.Uint64(), false, uint32(1_000_000+i*3000/50_000), time.Hour)
		}
		for range 100 { // while a tenth of them is left in the window
			got, _ := sample.note(random.Uint64(), true, 1_000_000+2700+3600, time.Hour)
			if got.over(20, 0.8) {
				t.Fatalf("seed %d: limited at %+v with a tenth of 50,000 good recipients left", seed, got)
			}
		}
	}
}

func TestCountedOver(t *testing.T) {
	for _, c := range []struct {
		counted counted
		limit   int
		ratio   float64
		want    bool
	}{
		{counted{20, 20, 20}, 20, 0.8, true},
		{counted{19, 19, 19}, 20, 0.8, false},
		{counted{20, 25, 20}, 20, 0.8, true},
		{counted{20, 26, 20}, 20, 0.8, false},
		{counted{1000, 1000, 1}, 20, 0.8, false}, // a single one that counts for a thousand may be chance
		{counted{1000, 1000, minSample}, 20, 0.8, true},
		{counted{3, 3, 3}, 3, 1, true},
		{counted{3, 300, 3}, 3, 0, true},
		{counted{300, 300, 100}, 0, 0, false}, // switched off
	} {
		if got := c.counted.over(c.limit, c.ratio); got != c.want {
			t.Errorf("%+v over(%d, %v) = %t, want %t", c.counted, c.limit, c.ratio, got, c.want)
		}
	}
}
