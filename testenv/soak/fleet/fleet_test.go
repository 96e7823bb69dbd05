package fleet

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag     = flag.Uint64("seed", 1, "seed of the changes and faults")
	durationFlag = flag.Duration("duration", 5*time.Second, "time with faults; a long run needs -timeout too")
	engineFlag   = flag.String("engine", "embedded", "engines: embedded, or external for NATS servers of their own")
	programFlag  = flag.String("program", "", "program to run, such as another version; default this one")
	calmFlag     = flag.Bool("calm", false, "no faults")
	keepFlag     = flag.Bool("keep", false, "keep the logs of a successful run")
)

func TestMain(m *testing.M) {
	if file := os.Getenv(asNATSServer); file != "" {
		runNATSServer(file)
		return
	}
	status := m.Run()
	os.RemoveAll(programDir)
	os.Exit(status)
}

// TestRandomFleet is described in the documentation of the package.
func TestRandomFleet(t *testing.T) {
	w := newWorld(t)
	defer w.report()
	w.awaitFollowing("start")
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	var probers []*prober
	for _, e := range w.edges {
		p := newProber(w, e, rand.New(rand.NewPCG(*seedFlag, uint64(len(probers)+10))))
		probers = append(probers, p)
		background.Go(func() { p.run(ctx) })
	}
	life := newLife(w, rand.New(rand.NewPCG(*seedFlag, 1)))
	lifeCtx, stopLife := context.WithCancel(ctx)
	lifeEnded := make(chan struct{})
	background.Go(func() { defer close(lifeEnded); life.run(lifeCtx) })
	w.disturb(rand.New(rand.NewPCG(*seedFlag, 2)))
	stopLife()
	<-lifeEnded
	w.truth.replicate()
	// An address was removed and another one created since the last pass: the indexes are equal, and
	// hold as many addresses as the directory, but do not know of either. The marker comes after both.
	w.awaitFollowing("the last change")
	w.awaitEqual()
	stop()
	background.Wait()
	for _, p := range probers {
		p.askAll()
		w.note("%s", p.summary())
	}
}
