package real

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"rcpt-milter/testenv"
	"rcpt-milter/testenv/soak/model"
)

// fault is something that goes wrong and ends. The seed has decided all of it.
type fault struct {
	kind  string
	what  string // with its parameters
	parts []string
	hold  time.Duration
	begin func(context.Context) error
	end   func(context.Context) error // ends the cause; nil if begin did
	after func(context.Context) error // what the soak itself needs afterwards; may be nil
}

// The parts that a fault needs for itself. Two faults with a common part do not overlap. Only one
// container is down at a time, because a container that starts takes the first free address.
const (
	partContainer = "a container that is down"
	partDaemon    = "the daemon"
	partDisk      = "the disk"
	partMX        = "mx"
)

// kind draws faults of one kind.
type kind struct {
	name   string
	weight int
	draw   func(s *Soak, rnd *rand.Rand) fault
}

// kinds lists all kinds of faults. A clock step is not among them: all containers and the machine
// have the same clock.
func kinds() []kind {
	return []kind{
		{"kill daemon", 5, killDaemon},
		{"restart daemon", 2, restartDaemon},
		{"stop controller", 3, func(s *Soak, rnd *rand.Rand) fault { return s.stopController(rnd, "stop", s.h.Stop) }},
		{"kill controller", 2, func(s *Soak, rnd *rand.Rand) fault { return s.stopController(rnd, "kill", s.h.Kill) }},
		{"freeze controller", 2, freezeController},
		{"slow controller", 2, slowController},
		{"cut path", 3, cutPath},
		{"stall path", 3, stallPath},
		{"delay path", 2, delayPath},
		{"throttle path", 2, throttlePath},
		{"reset path", 4, resetPath},
		{"full disk", 4, fullDisk},
		{"read-only store", 3, readOnlyStore},
		{"good reload", 5, goodReload},
		{"bad reload", 3, badReload},
		{"restart Postfix", 2, restartPostfix},
		{"reload Postfix", 1, reloadPostfix},
	}
}

// draw draws a fault that conflicts with none of the others.
func (s *Soak) draw(rnd *rand.Rand, others ...fault) fault {
	for {
		k := model.Choose(rnd, kinds(), func(k kind) int { return k.weight })
		f := k.draw(s, rnd)
		f.kind = k.name
		if !slices.ContainsFunc(others, f.conflicts) {
			return f
		}
	}
}

func (f fault) conflicts(other fault) bool {
	return slices.ContainsFunc(f.parts, func(part string) bool { return slices.Contains(other.parts, part) })
}

// round injects a fault, often with a second one at the same time, and waits until everything is
// right again.
func (s *Soak) round(ctx context.Context, rnd *rand.Rand) error {
	list := []fault{s.draw(rnd)}
	offset, rest := time.Duration(rnd.Int64N(int64(2*time.Second))), time.Duration(rnd.Int64N(int64(3*time.Second)))
	if rnd.IntN(3) == 0 {
		list = append(list, s.draw(rnd, list...))
	}
	name, err := s.begin(ctx, list, offset)
	ended, e := s.end(ctx, list)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	s.recover(ctx, name, ended)
	for _, f := range list {
		if err := s.step(ctx, f.what, f.after); err != nil {
			return err
		}
	}
	sleep(ctx, rest)
	return ctx.Err()
}

// begin begins faults, and waits as long as they last. It returns their kinds.
func (s *Soak) begin(ctx context.Context, list []fault, offset time.Duration) (kinds string, err error) {
	var names []string
	var hold time.Duration
	for i, f := range list {
		if i > 0 {
			sleep(ctx, offset)
		}
		s.report.fault("begins: "+f.what, f.kind)
		if err := s.step(ctx, f.what, f.begin); err != nil {
			return "", err
		}
		names, hold = append(names, f.kind), max(hold, f.hold)
	}
	kinds = strings.Join(names, " + ")
	held, stop := context.WithTimeout(ctx, hold)
	defer stop()
	s.background.Go(func() { s.watch(held, kinds) })
	<-held.Done()
	return kinds, nil
}

// end ends faults, also those that did not begin. It returns when the last one ended.
func (s *Soak) end(ctx context.Context, list []fault) (ended time.Time, err error) {
	ctx = context.WithoutCancel(ctx)
	for _, f := range slices.Backward(list) {
		ended = time.Now()
		s.report.fault("ends: "+f.what, "")
		err = errors.Join(err, s.step(ctx, f.what, f.end))
	}
	return ended, err
}

// step runs a step of a fault. An error means that the harness does not do what the soak needs.
func (s *Soak) step(ctx context.Context, what string, do func(context.Context) error) error {
	if do == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// length draws how long a fault lasts.
func (s *Soak) length(rnd *rand.Rand) time.Duration {
	return (s.options.Hold/5 + time.Duration(rnd.Int64N(int64(s.options.Hold*4/5)))).Round(10 * time.Millisecond)
}

func killDaemon(s *Soak, rnd *rand.Rand) fault {
	hold := time.Duration(rnd.IntN(3000)) * time.Millisecond
	return fault{what: fmt.Sprintf("the daemon is killed, %v", hold), hold: hold,
		parts: []string{partContainer, partDaemon},
		begin: func(ctx context.Context) error { return s.h.Kill(ctx, testenv.Milter) },
		end:   func(ctx context.Context) error { return s.h.StartOnly(ctx, testenv.Milter) }}
}

func restartDaemon(s *Soak, _ *rand.Rand) fault {
	return fault{what: "the daemon is stopped in good order", parts: []string{partContainer, partDaemon},
		begin: func(ctx context.Context) error { return s.h.Stop(ctx, testenv.Milter) },
		end:   func(ctx context.Context) error { return s.h.StartOnly(ctx, testenv.Milter) }}
}

func (s *Soak) pickController(rnd *rand.Rand) *controller {
	return s.controllers[rnd.IntN(len(s.controllers))]
}

func (s *Soak) stopController(
	rnd *rand.Rand, verb string, stop func(context.Context, string) error,
) fault {
	c, hold := s.pickController(rnd), s.length(rnd)
	return fault{what: fmt.Sprintf("%s %s, %v", verb, c.service, hold), hold: hold,
		parts: []string{partContainer, c.service},
		begin: func(ctx context.Context) error { s.hold(c); return stop(ctx, c.service) },
		end: func(ctx context.Context) error {
			if err := s.h.StartOnly(ctx, c.service); err != nil {
				return err
			}
			return s.aim(ctx, c)
		},
		after: func(ctx context.Context) error { return s.connect(ctx, c) }}
}

func freezeController(s *Soak, rnd *rand.Rand) fault {
	c, hold := s.pickController(rnd), s.length(rnd)
	return fault{what: fmt.Sprintf("freeze %s, %v", c.service, hold), hold: hold, parts: []string{c.service},
		begin: func(ctx context.Context) error { s.hold(c); return s.h.Pause(ctx, c.service) },
		end:   func(ctx context.Context) error { return s.h.Unpause(ctx, c.service) },
		after: func(ctx context.Context) error { return s.connect(ctx, c) }}
}

func slowController(s *Soak, rnd *rand.Rand) fault {
	c, hold, percent := s.pickController(rnd), s.length(rnd), 10+rnd.IntN(30)
	return fault{what: fmt.Sprintf("%s gets %d percent of a processor, %v", c.service, percent, hold), hold: hold,
		parts: []string{c.service},
		begin: func(ctx context.Context) error { return s.h.Throttle(ctx, c.service, percent) },
		end:   func(ctx context.Context) error { return s.h.Throttle(ctx, c.service, 0) }}
}

// path is a fault of the path of the daemon to a controller. begin runs again at every interval, if
// there is one.
func (s *Soak) path(
	c *controller, hold time.Duration, what string, every time.Duration, begin func(*testenv.Proxy),
) fault {
	again, stop := context.WithCancel(context.Background()) // end is always called
	return fault{what: fmt.Sprintf("path to %s: %s, %v", c.service, what, hold), hold: hold,
		parts: []string{"path to " + c.service},
		begin: func(context.Context) error {
			begin(c.proxy)
			if every > 0 {
				s.background.Go(func() {
					for sleep(again, every); again.Err() == nil; sleep(again, every) {
						begin(c.proxy)
					}
				})
			}
			return nil
		},
		end: func(context.Context) error { stop(); c.proxy.Resume(); return nil }}
}

func cutPath(s *Soak, rnd *rand.Rand) fault {
	return s.path(s.pickController(rnd), s.length(rnd), "cut", 0, func(p *testenv.Proxy) { p.Refuse(); p.Cut() })
}

func stallPath(s *Soak, rnd *rand.Rand) fault {
	return s.path(s.pickController(rnd), s.length(rnd), "stalled", 0, (*testenv.Proxy).Stall)
}

func delayPath(s *Soak, rnd *rand.Rand) fault {
	delay := time.Duration(20+rnd.IntN(1000)) * time.Millisecond
	return s.path(s.pickController(rnd), s.length(rnd), fmt.Sprint("delayed by ", delay), 0,
		func(p *testenv.Proxy) { p.Slow(delay, 0) })
}

func throttlePath(s *Soak, rnd *rand.Rand) fault {
	rate := 1000 << rnd.IntN(6)
	return s.path(s.pickController(rnd), s.length(rnd), fmt.Sprintf("%d bytes a second", rate), 0,
		func(p *testenv.Proxy) { p.Slow(0, rate) })
}

func resetPath(s *Soak, rnd *rand.Rand) fault {
	every := time.Duration(50+rnd.IntN(2000)) * time.Millisecond
	return s.path(s.pickController(rnd), s.length(rnd), fmt.Sprint("reset every ", every), every, (*testenv.Proxy).Cut)
}

// disk runs a shell script as root where the file system of the store is /store.
func (s *Soak) disk(ctx context.Context, script string) error {
	out, err := s.h.ExecInput(ctx, diskService, "", "sh", "-ec", script)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: exit status %d: %s", script, out.Status, strings.TrimSpace(out.Stderr))
	}
	return err
}

// fill is the file that fills the file system.
const fill = "/store/soak-fill"

func fullDisk(s *Soak, rnd *rand.Rand) fault {
	leave, hold := 0, s.length(rnd)
	if rnd.IntN(2) == 0 {
		leave = rnd.IntN(minFree)
	}
	return fault{what: fmt.Sprintf("the disk is full but for %d KiB, %v", leave>>10, hold), hold: hold,
		parts: []string{partDisk},
		begin: func(ctx context.Context) error {
			// The daemon may write meanwhile, so the size is only approximate.
			return s.disk(ctx, fmt.Sprintf("free=$(df --output=avail -B1 /store | tail -1); "+
				"[ $free -le %d ] || fallocate -l $((free-%d)) %s || head -c $((free-%d)) /dev/zero > %s || true",
				leave, leave, fill, leave, fill))
		},
		end: func(ctx context.Context) error { return s.disk(ctx, "rm -f "+fill) }}
}

// readOnlyStore starts the daemon on a read-only file system: the kernel does not make one read-only
// while a file is open for writing.
func readOnlyStore(s *Soak, rnd *rand.Rand) fault {
	stop, verb := s.h.Stop, "stopped"
	if rnd.IntN(2) == 0 {
		stop, verb = s.h.Kill, "killed"
	}
	hold := s.length(rnd)
	return fault{what: fmt.Sprintf("the daemon is %s and starts on a read-only store, %v", verb, hold), hold: hold,
		parts: []string{partContainer, partDaemon, partDisk},
		begin: func(ctx context.Context) error {
			if err := stop(ctx, testenv.Milter); err != nil {
				return err
			}
			if err := s.disk(ctx, "mount -o remount,ro /store"); err != nil {
				return err
			}
			return s.h.StartOnly(ctx, testenv.Milter)
		},
		end: func(ctx context.Context) error { return s.disk(ctx, "mount -o remount,rw /store") }}
}

func goodReload(s *Soak, rnd *rand.Rand) fault {
	rules, next := model.DrawRules(rnd), drawSettings(rnd)
	var bases [][]string
	for _, w := range s.worlds {
		bases = append(bases, w.model.DrawBases(rnd))
	}
	return fault{what: fmt.Sprintf("reload with %+v, bases %v, %+v", rules, bases, next), parts: []string{partDaemon},
		begin: func(ctx context.Context) error { return s.reload(ctx, rules, bases, next) }}
}

// badReload leaves a bad file only until the daemon has rejected it.
func badReload(s *Soak, rnd *rand.Rand) fault {
	text := []string{"domains: {corp.example: perhaps}\n", "domains: {corp.example: enforce\n", "", "\x00\xff\n",
		"unknown_key: 1\n"}[rnd.IntN(5)]
	return fault{what: fmt.Sprintf("reload with the bad file %q", text), parts: []string{partDaemon},
		begin: func(ctx context.Context) error {
			defer s.lock()()
			if err := s.h.WriteFile(ctx, testenv.Milter, testenv.ConfigFile, text); err != nil {
				return err
			}
			err := s.runReload(ctx, exitBadConfiguration)
			if e := s.configure(ctx); err == nil {
				err = e
			}
			return err
		}}
}

// exitBadConfiguration is the exit status of a command that finds the configuration bad.
const exitBadConfiguration = 78

func restartPostfix(s *Soak, rnd *rand.Rand) fault {
	hold := time.Duration(rnd.IntN(2000)) * time.Millisecond
	site := s.sites[rnd.IntN(len(s.sites))]
	return fault{what: fmt.Sprintf("Postfix at %s is stopped, %v", site.mx, hold), hold: hold,
		parts: []string{partContainer, partMX},
		begin: func(ctx context.Context) error { return s.h.Stop(ctx, site.mx) },
		end: func(ctx context.Context) error {
			if err := s.h.StartOnly(ctx, site.mx); err != nil {
				return err
			}
			return s.locate(ctx, site)
		}}
}

func reloadPostfix(s *Soak, rnd *rand.Rand) fault {
	site := s.sites[rnd.IntN(len(s.sites))]
	return fault{what: "Postfix at " + site.mx + " is reloaded", parts: []string{partMX},
		begin: func(ctx context.Context) error {
			out, err := s.h.ExecInput(ctx, site.mx, "", "postfix", "reload")
			if err == nil && out.Status != 0 {
				err = fmt.Errorf("postfix reload: exit status %d: %s", out.Status, out.Stderr)
			}
			return err
		}}
}
