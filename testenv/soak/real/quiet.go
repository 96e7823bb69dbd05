package real

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// awaitPass waits until a pass that began after a moment has succeeded at a site, and the daemon has no
// error.
func (s *Soak) awaitPass(ctx context.Context, site *site, since time.Time, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return testenv.AwaitNil(ctx, poll, func(ctx context.Context) error {
		status, err := s.h.StatusAt(ctx, site.daemon)
		if err != nil {
			return err
		}
		return passed(status, since)
	})
}

// passed returns nil if the daemon has had a good pass that began after a moment.
func passed(status testenv.Status, since time.Time) error {
	if len(status.Directories) != 1 {
		return fmt.Errorf("status has %d directories, want 1", len(status.Directories))
	}
	d := status.Directories[0]
	for _, pass := range []testenv.Pass{d.LastIncremental, d.LastFull} {
		if pass.Result == "ok" && pass.Started.After(since) && status.State == "fresh" && d.LastError == "" {
			return nil
		}
	}
	return fmt.Errorf("state %s, last_error %q, no good pass since %v: incremental %+v, full %+v", status.State,
		d.LastError, since.Format(time.TimeOnly), d.LastIncremental, d.LastFull)
}

// watch notes how long a fault lasts until a pass succeeds in spite of it.
func (s *Soak) watch(ctx context.Context, kinds string) {
	began := time.Now()
	for _, site := range s.sites {
		if s.awaitPass(ctx, site, began, recoveryPatience) != nil {
			return
		}
	}
	s.report.servedDuring(kinds, time.Since(began))
}

// recover waits until every site has had a pass since the end of a fault, accepts a valid recipient
// and rejects one that never existed.
func (s *Soak) recover(ctx context.Context, kinds string, ended time.Time) {
	for _, site := range s.sites {
		err := s.awaitRecovery(ctx, site, ended)
		if err == nil {
			err = s.awaitAnswers(ctx, site)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.report.fail("site %s did not recover from %s: %v", site.name, kinds, err)
		}
	}
	took := time.Since(ended)
	s.report.recovered(kinds, took)
	s.report.say("recovered from %s after %.1f s", kinds, took.Seconds())
}

// awaitRecovery is awaitPass that also notices a daemon that has ended, and starts it again.
func (s *Soak) awaitRecovery(ctx context.Context, site *site, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryPatience)
	defer cancel()
	return testenv.AwaitNil(ctx, poll, func(ctx context.Context) error {
		status, err := s.h.StatusAt(ctx, site.daemon)
		if err == nil {
			return passed(status, since)
		}
		if state, exit, e := s.h.State(ctx, site.daemon); e == nil && state == "exited" {
			s.report.fail("the daemon of site %s has ended with status %d:\n%s", site.name, exit,
				s.logTail(ctx, site.daemon))
			return errors.Join(err, s.h.StartOnly(ctx, site.daemon))
		}
		return err
	})
}

// logTail returns the end of the log of a service.
func (s *Soak) logTail(ctx context.Context, service string) string {
	text, err := s.h.LogTail(ctx, service)
	if err != nil {
		return err.Error()
	}
	return text
}

// awaitAnswers waits until a site answers as usual.
func (s *Soak) awaitAnswers(ctx context.Context, site *site) error {
	unlock := s.lock()
	valid, lenient := s.worlds[0].model.Anchors()[0], s.settings.report
	unlock()
	want := map[string]Class{valid: Accepted, "no.such.user@corp.example": Rejected}
	if lenient {
		delete(want, "no.such.user@corp.example")
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryPatience)
	defer cancel()
	for recipient, class := range want {
		err := testenv.AwaitNil(ctx, poll, func(ctx context.Context) error {
			reply, err := testenv.AskOnce(ctx, site.smtp(), recipient)
			if err == nil && classOf(reply.Code()) != class {
				err = fmt.Errorf("%q to %s, want it %v", reply, recipient, class)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// quiet stops the changes, waits until everything has arrived everywhere, and compares the index with
// the models. The clients go on.
func (s *Soak) quiet(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.options.Lag+endPatience)
	defer cancel()
	defer s.lock()()
	s.report.fault("quiet point", "")
	if err := s.replicate(ctx); err != nil {
		return err
	}
	if err := s.compareModels(ctx); err != nil {
		return err
	}
	want := s.valid()
	for _, site := range s.sites {
		if err := s.equal(ctx, site, want); err != nil {
			s.report.fail("site %s at a quiet point: %v", site.name, err)
			continue
		}
		at := time.Now()
		for _, w := range s.worlds {
			for a := range w.touched {
				state := Gone
				if slices.Contains(want, a) {
					state = Valid
				}
				if site.oracle.Now(a) == Changing && (state == Valid || w.forgotten(a)) {
					site.oracle.Set(a, state, at, "the index equals the models at a quiet point")
				}
			}
		}
		s.report.quiet()
	}
	s.report.say("quiet point after %.1f s: %d addresses", time.Since(began).Seconds(), len(want))
	return ctx.Err()
}

// compareModels compares the models with all controllers, to distinguish an error of a model from one
// of the daemon.
func (s *Soak) compareModels(ctx context.Context) error {
	return testenv.AwaitNil(ctx, time.Second, func(context.Context) error {
		for _, w := range s.worlds {
			want := w.model.List()
			for _, c := range s.controllers {
				if c.reader == nil {
					return fmt.Errorf("%s is away", c.service)
				}
				have, err := c.reader.Objects(w.model.Root)
				if err != nil {
					return err
				}
				if diff := difference(describe(want), describe(have)); diff != "" {
					return fmt.Errorf("the model of %s differs from %s:\n%s", w.home.service, c.service, diff)
				}
			}
		}
		return nil
	})
}

func describe(list []testenv.Object) []string {
	var text []string
	for _, o := range list {
		text = append(text, fmt.Sprintf("%s disabled=%t mail=%q %q", o.DN, o.Disabled, o.Mail, o.Proxies))
	}
	return text
}

// difference returns the lines that only one of two sorted lists has.
func difference(want, have []string) string {
	var text strings.Builder
	for _, line := range want {
		if !slices.Contains(have, line) {
			text.WriteString("  - " + line + "\n")
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			text.WriteString("  + " + line + "\n")
		}
	}
	return text.String()
}

// equal waits until the index of a site has exactly these addresses, which may take the replication
// lag. The daemon's own comparison must agree, and Postfix must answer for each address.
func (s *Soak) equal(ctx context.Context, site *site, want []string) error {
	err := testenv.AwaitNil(ctx, time.Second, func(ctx context.Context) error {
		out, err := s.h.Exec(ctx, site.daemon, "rcpt-milter", "sync", "--full", "--wait")
		if err == nil && out.Status != 0 {
			err = fmt.Errorf("sync: exit status %d: %s", out.Status, strings.TrimSpace(out.Stdout+out.Stderr))
		}
		if err != nil {
			return err
		}
		have, err := s.exported(ctx, site)
		if err != nil {
			return err
		}
		if diff := difference(want, have); diff != "" {
			return fmt.Errorf("the index differs from the models (- model, + index):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		return err
	}
	out, err := s.h.Exec(ctx, site.daemon, "rcpt-milter", "compare")
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("compare: exit status %d: %s%s", out.Status, out.Stdout, out.Stderr)
	}
	if err != nil {
		return err
	}
	return s.askAll(ctx, site, want)
}

// askAll asks for every address of the models.
func (s *Soak) askAll(ctx context.Context, site *site, valid []string) error {
	anchors, pool := s.universe()
	replies, err := testenv.AskAllAt(ctx, site.smtp(), slices.Concat(anchors, pool))
	if err != nil {
		return err
	}
	var wrong []error
	for a, reply := range replies {
		class := classOf(reply.Code())
		if known := slices.Contains(valid, a); known && class != Accepted ||
			!known && class == Accepted && !s.settings.report {
			wrong = append(wrong, fmt.Errorf("%q to %s, valid %t", reply, a, known))
		}
	}
	return errors.Join(wrong...)
}
