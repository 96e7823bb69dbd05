package testenv_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"rcpt-milter/testenv"
)

// prober asks the edge for every valid address, all the time. The edge may never reject one of
// them permanently.
type prober struct {
	mx string // the service of Postfix

	mu       sync.Mutex // guards the fields below
	valid    map[string]bool
	asked    int
	deferred int
	refused  []string
}

// probe starts to ask, through Postfix, until the test ends or stops it.
func (e *edge) probe(addresses ...string) (p *prober, stop func()) {
	e.t.Helper()
	return e.probeAt(testenv.MX, 0, addresses...)
}

// probeAt is probe with another Postfix and a pause between two rounds.
func (e *edge) probeAt(mx string, pause time.Duration, addresses ...string) (p *prober, stop func()) {
	e.t.Helper()
	p = &prober{mx: mx, valid: map[string]bool{}}
	p.add(addresses...)
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := p.round(ctx, e.Harness); err != nil && ctx.Err() == nil {
				e.t.Logf("prober: %v", err) // Postfix ends a session after many errors
			}
			wait(ctx, pause)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		p.verdict(e.t)
	})
	e.t.Cleanup(stop)
	return p, stop
}

// wait waits for some time, or until the context ends.
func wait(ctx context.Context, pause time.Duration) {
	if pause == 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// verdict fails the test if a valid address was rejected.
func (p *prober) verdict(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("prober at %s: %d questions about valid addresses, %d answered with 4xx, %d with 5xx", p.mx, p.asked,
		p.deferred, len(p.refused))
	if len(p.refused) > 0 {
		t.Errorf("valid addresses were refused %d times; the first: %s", len(p.refused), p.refused[0])
	}
	if p.asked == 0 {
		t.Error("the prober never got an answer")
	}
}

// add records addresses that the edge knows and that stay valid.
func (p *prober) add(addresses ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addresses {
		p.valid[a] = true
	}
}

// remove records addresses that are about to become invalid.
func (p *prober) remove(addresses ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addresses {
		delete(p.valid, a)
	}
}

func (p *prober) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.valid))
}

// round asks for all addresses once, in one session.
func (p *prober) round(ctx context.Context, h *testenv.Harness) error {
	session, err := h.SessionAt(ctx, p.mx, "")
	if err != nil {
		return err
	}
	defer session.Close()
	for some := range slices.Chunk(p.list(), 100) {
		reply, err := session.Do("MAIL FROM:<prober@elsewhere.example>")
		switch {
		case err != nil:
			return err
		case reply.Code()/100 == 4: // the daemon is away
			return nil
		case reply.Code() != 250:
			return fmt.Errorf("MAIL: %q", reply)
		}
		for _, address := range some {
			reply, err := session.Do("RCPT TO:<" + address + ">")
			if err != nil {
				return err
			}
			p.answer(address, reply)
		}
		if _, err := session.Do("RSET"); err != nil {
			return err
		}
	}
	return nil
}

// answer records a reply, unless the address has become invalid in the meantime.
func (p *prober) answer(address string, reply testenv.Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.valid[address] {
		return
	}
	p.asked++
	switch reply.Code() / 100 {
	case 4:
		p.deferred++
	case 5:
		p.refused = append(p.refused, fmt.Sprintf("%s: %q", address, reply))
	}
}
