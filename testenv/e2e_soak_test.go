package testenv_test

import (
	"flag"
	"testing"
	"time"

	"rcpt-milter/testenv/soak/real"
)

// soakDeadline limits the short soak. The first start of dc2 takes most of it.
const soakDeadline = 20 * time.Minute

var (
	soakSeed     = flag.Uint64("soak.seed", 1, "the seed of the short soak")
	soakDuration = flag.Duration("soak.duration", real.Short().Duration, "how long it injects faults")
)

// TestSoak is the short form of `go run ./testenv/soak`.
func TestSoak(t *testing.T) {
	e := require(t).in(t, soakDeadline+*soakDuration)
	o := real.Short()
	o.Seed, o.Duration, o.Out = *soakSeed, *soakDuration, t.Output()
	e.must(real.Run(e.ctx, e.Harness, o))
}
