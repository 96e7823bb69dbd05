package real

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/soak/model"
)

// Options are the size of a soak.
type Options struct {
	Duration time.Duration // without set-up and the last quiet point
	Seed     uint64
	Rate     float64       // RCPTs a second, of all clients together
	Changes  float64       // operations a second at each controller
	Honest   int           // sessions of honest clients
	Hostile  int           // sessions of clients that guess
	Hold     time.Duration // the longest fault
	Lag      time.Duration // replication_lag of the daemon; at least four times Hold
	Quiet    time.Duration // between two quiet points
	Report   time.Duration // between two summaries
	Out      io.Writer
}

// Defaults returns the options of a long soak.
func Defaults() Options {
	return Options{Duration: time.Hour, Seed: 1, Rate: 400, Changes: 1, Honest: 8, Hostile: 4, Hold: 20 * time.Second,
		Lag: 3 * time.Minute, Quiet: 10 * time.Minute, Report: time.Minute}
}

// Short returns the options of a soak of about a minute.
func Short() Options {
	o := Defaults()
	o.Duration, o.Hold, o.Lag, o.Report, o.Changes = 45*time.Second, 4*time.Second, 20*time.Second, 15*time.Second, 2
	return o
}

// Waits and intervals.
const (
	poll            = 200 * time.Millisecond
	promiseEvery    = 500 * time.Millisecond
	promisePatience = time.Minute
	lookupPatience  = 10 * time.Second
	// actionPatience limits one step of a fault.
	actionPatience = 2 * time.Minute
	// recoveryPatience is how long everything may take to be right after a fault. A pass that failed
	// is repeated after a growing pause.
	recoveryPatience = 3 * time.Minute
	endPatience      = 2 * time.Minute
	setUpPatience    = 15 * time.Minute
)

// hostileShare is the part of the RCPTs that hostile clients send.
const hostileShare = 0.25

// anchors is the number of recipients of each world that never change.
const anchors = 60

// site is a daemon and its Postfix, and the oracle of their answers.
type site struct {
	name, daemon, mx string
	oracle           *Oracle
	address          atomic.Value // string: where Postfix listens
}

func (s *site) smtp() string { return s.address.Load().(string) }

// Soak is one run.
type Soak struct {
	h           *testenv.Harness
	options     Options
	report      *report
	sites       []*site
	controllers []*controller
	worlds      []*world
	settings    settings
	rulesText   atomic.Value // string: the rules of the models and the settings
	background  sync.WaitGroup
	alone       bool // the soak has started dc2
	// explain asks a site about a recipient with a wrong answer.
	explain func(ctx context.Context, site *site, recipient string) (lookup, journal []string)
}

// errWrong means that something was not as it must be. The report has printed it.
var errWrong = errors.New("the soak found faults")

// Run runs a soak on a harness, and restores the harness. The error is nil if every answer was right,
// everything recovered, and the index equalled the models at each quiet point.
func Run(ctx context.Context, h *testenv.Harness, o Options) (err error) {
	s := &Soak{h: h, options: o, report: newReport(o.Out)}
	s.explain = s.ask
	s.sites = []*site{{name: testenv.MX, daemon: testenv.Milter, mx: testenv.MX, oracle: NewOracle(s.report.began)}}
	paths, stopPaths := context.WithCancel(context.Background())
	var forwarding sync.WaitGroup
	defer func() {
		err = errors.Join(err, s.clean())
		s.report.say("cleaned up")
		stopPaths()
		forwarding.Wait()
	}()
	setUp, cancel := context.WithTimeout(ctx, setUpPatience)
	defer cancel()
	if err := s.setUp(setUp); err != nil {
		return fmt.Errorf("set-up: %w", err)
	}
	for _, c := range s.controllers {
		forwarding.Go(func() { c.proxy.Run(paths) })
	}
	if err := s.startDaemon(setUp); err != nil {
		return fmt.Errorf("set-up: %w", err)
	}
	s.report.say("set up; seed %d, %v, %.0f RCPTs a second, %.1f operations a second at each controller", o.Seed,
		o.Duration, o.Rate, o.Changes)
	err = s.run(ctx)
	s.background.Wait()
	s.report.say("the end\n%s%s", s.report.summary(), s.operations())
	if err == nil && (s.report.wrong > 0 || len(s.report.failures) > 0) {
		err = errWrong
	}
	return err
}

// run does everything at once until the time is over, between two quiet points.
func (s *Soak) run(ctx context.Context) error {
	all, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(nil)
	s.report.clientsBegin()
	for _, site := range s.sites {
		running.Go(func() { s.promise(all, site) })
		for _, c := range s.clients(site) {
			running.Go(func() { s.work(all, c) })
		}
	}
	for _, w := range s.worlds {
		running.Go(func() {
			if err := s.live(all, w); err != nil {
				stop(err)
			}
		})
	}
	running.Go(func() {
		for sleep(all, s.options.Report); all.Err() == nil; sleep(all, s.options.Report) {
			s.report.say("so far\n%s", s.report.summary())
		}
	})
	// The first quiet point promises what was furnished.
	for _, part := range []func(context.Context) error{s.quiet, s.faults, s.quiet} {
		if err := part(all); err != nil {
			return errors.Join(err, context.Cause(all))
		}
	}
	return nil
}

// faults injects faults until the time is over, with quiet points in between.
func (s *Soak) faults(ctx context.Context) error {
	rnd := s.random("faults")
	end := time.Now().Add(s.options.Duration)
	calm := time.Now().Add(s.options.Quiet)
	for time.Now().Before(end) {
		if err := s.round(ctx, rnd); err != nil {
			return err
		}
		if time.Now().After(calm) && time.Until(end) > s.options.Quiet/2 {
			if err := s.quiet(ctx); err != nil {
				return err
			}
			calm = time.Now().Add(s.options.Quiet)
		}
	}
	return ctx.Err()
}

// random returns the source of random values of one purpose.
func (s *Soak) random(purpose string) *rand.Rand {
	sum := fnv.New64a()
	io.WriteString(sum, purpose)
	return rand.New(rand.NewPCG(s.options.Seed, sum.Sum64()))
}

// operations returns how many operations there were, by world.
func (s *Soak) operations() string {
	defer s.lock()()
	text := ""
	for _, w := range s.worlds {
		n := 0
		for _, times := range w.counts {
			n += times
		}
		text += fmt.Sprintf("  operations at %s: %d: %s\n", w.home.service, n, counts(w.counts))
	}
	return text
}

// newWorlds makes the models.
func (s *Soak) newWorlds() {
	for i, c := range s.controllers {
		name := fmt.Sprint("Soak", string(rune('A'+i)))
		s.worlds = append(s.worlds, &world{home: c, model: model.New(name, s.random("world "+name)),
			touched: map[string]time.Time{}, absent: map[string]time.Time{}, counts: map[string]int{}})
	}
}

// sleep waits for some time or until the context ends.
func sleep(ctx context.Context, length time.Duration) {
	if length <= 0 {
		return
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// exported returns the index of a site.
func (s *Soak) exported(ctx context.Context, site *site) ([]string, error) {
	list, err := s.h.ExportedAt(ctx, site.daemon)
	slices.Sort(list)
	return list, err
}
