package simulated

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed only; 0: the usual ones")
	seedsFlag = flag.Int("seeds", 3, "how many seeds to run")
	opsFlag   = flag.Int("ops", 250, "operations of each seed")
	stepsFlag = flag.Bool("steps", false, "print every step as it is taken")
)

// quietEvery is the usual number of operations between two quiet points.
const quietEvery = 120

func TestRandomLife(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for n := range *seedsFlag {
			seeds = append(seeds, uint64(n+1))
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			defer w.report()
			w.live(*opsFlag)
		})
	}
}

// live does so many operations, with quiet points in between and at the end.
func (w *world) live(ops int) {
	w.quiet()
	calm := w.next(quietEvery)
	for w.ops = 0; w.ops < ops; w.ops++ {
		w.choose(w.operations())
		w.stopOnFailure()
		if calm--; calm <= 0 {
			w.quiet()
			calm = w.next(quietEvery)
		}
	}
	w.quiet()
}

// next draws a number of operations around n.
func (w *world) next(n int) int { return n/4 + w.rnd.IntN(n*3/2) }

// operation is something that may happen, and how often.
type operation struct {
	weight int
	do     func()
}

// choose draws one operation by weight and does it.
func (w *world) choose(list []operation) {
	sum := 0
	for _, o := range list {
		sum += o.weight
	}
	n := w.rnd.IntN(sum)
	for _, o := range list {
		if n -= o.weight; n < 0 {
			o.do()
			return
		}
	}
}

// operations are all that happens between quiet points.
func (w *world) operations() []operation {
	return []operation{
		{75, func() { w.change(w.place()) }},
		{25, func() { w.pass(w.forest(), w.rnd.IntN(10) == 0) }},
		{9, func() { w.passInTrouble(w.forest()) }},
		{8, func() { w.replicate(w.forest()) }},
		{6, w.time},
		{18, w.trouble},
	}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }
