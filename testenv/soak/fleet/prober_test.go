package fleet

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// accepted is the answer of a milter that has no objection.
const accepted = "continue"

// session is one session of an MTA with a daemon.
type session struct {
	net.Conn
	reader *bufio.Reader
}

// answerLimit is how long an MTA waits for an answer.
const answerLimit = 20 * time.Second

// openSession begins a session as Postfix does.
func openSession(ctx context.Context, h *host) (*session, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.dir, "milter.sock"))
	if err != nil {
		return nil, err
	}
	s := &session{c, bufio.NewReader(c)}
	s.SetDeadline(time.Now().Add(answerLimit))
	if _, err = io.WriteString(s, packet('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")); err == nil {
		var code byte
		if code, _, err = s.reply(); err == nil && code != 'O' {
			err = fmt.Errorf("negotiation is answered %c", code)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ask returns the answer to a RCPT: accepted, or a line of SMTP.
func (s *session) ask(recipient string) (string, error) {
	s.SetDeadline(time.Now().Add(answerLimit))
	if _, err := io.WriteString(s, packet('D', "R{rcpt_addr}\x00"+recipient+"\x00")+
		packet('R', "<"+recipient+">\x00")); err != nil {
		return "", err
	}
	code, data, err := s.reply()
	switch {
	case err != nil:
		return "", err
	case code == 'c':
		return accepted, nil
	case code == 'y':
		return strings.TrimSuffix(data, "\x00"), nil
	}
	return "", fmt.Errorf("RCPT is answered %c %q", code, data)
}

func (s *session) reply() (byte, string, error) {
	var header [4]byte
	if _, err := io.ReadFull(s.reader, header[:]); err != nil {
		return 0, "", err
	}
	data := make([]byte, binary.BigEndian.Uint32(header[:]))
	if _, err := io.ReadFull(s.reader, data); err != nil || len(data) == 0 {
		return 0, "", fmt.Errorf("milter: empty packet or %w", err)
	}
	return data[0], string(data[1:]), nil
}

func packet(command byte, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(command) + data
}

// askOnce asks in a session of its own.
func askOnce(ctx context.Context, h *host, recipient string) (string, error) {
	s, err := openSession(ctx, h)
	if err != nil {
		return "", err
	}
	defer s.Close()
	return s.ask(recipient)
}

// probePause is the pause between two questions of a prober. A session has sessionLength of them.
const (
	probePause    = 5 * time.Millisecond
	sessionLength = 500
)

// gone is an address that no controller shows, and that an edge still accepts.
type gone struct {
	address        string
	lost, accepted time.Time
}

// prober asks one edge all the time, and judges the answers.
type prober struct {
	w       *world
	edge    *host
	rnd     *rand.Rand
	session *session
	made    int
	learned map[string]bool // addresses in their first life that the edge has accepted

	asked, noAnswer, sessions int
	count                     map[string]int
	oldestGone                gone // accepted for the longest time after its loss
}

func newProber(w *world, edge *host, rnd *rand.Rand) *prober {
	return &prober{w: w, edge: edge, rnd: rnd, learned: map[string]bool{}, count: map[string]int{}}
}

// run asks until ctx ends. An edge that does not answer is no error: an MTA defers then.
func (p *prober) run(ctx context.Context) {
	for tick := time.NewTicker(probePause); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			if p.session != nil {
				p.session.Close()
			}
			return
		case <-tick.C:
		}
		p.askOne(ctx, p.draw())
	}
}

// draw draws an address: mostly a valid one, also one of those that came last, one that is gone, and
// one that never existed.
func (p *prober) draw() string {
	p.w.truth.mu.Lock()
	defer p.w.truth.mu.Unlock()
	valid, gone := p.w.truth.valid, p.w.truth.gone
	switch n := p.rnd.IntN(10); {
	case n < 8 && len(valid) > 0:
		return valid[p.rnd.IntN(len(valid))]
	case n == 8 && len(gone) > 0:
		return gone[p.rnd.IntN(len(gone))]
	}
	p.made++
	return fmt.Sprintf("never-%s-%d@corp.example", p.edge.name, p.made)
}

func (p *prober) askOne(ctx context.Context, recipient string) {
	if p.session == nil {
		s, err := openSession(ctx, p.edge)
		if err != nil {
			p.noAnswer++
			return
		}
		p.session = s
		p.sessions++
	}
	began := time.Now()
	reply, err := p.session.ask(recipient)
	if err != nil {
		p.noAnswer++
		p.session.Close()
		p.session = nil
		return
	}
	p.judge(recipient, reply, began)
	if p.asked%sessionLength == 0 {
		p.session.Close()
		p.session = nil
	}
}

// judge compares an answer with what is allowed.
func (p *prober) judge(recipient, reply string, began time.Time) {
	p.w.truth.mu.Lock()
	defer p.w.truth.mu.Unlock()
	p.asked++
	l := p.w.truth.lives[recipient]
	rejected, deferred := strings.HasPrefix(reply, "5"), strings.HasPrefix(reply, "4")
	known := l != nil && l.first && l.shownBy > 0 && p.learned[recipient]
	old := l != nil && !l.since.IsZero() && began.Sub(l.since) > staleAfter
	switch {
	case !rejected && !deferred && reply != accepted:
		p.w.fail("%s: %s: %q", p.edge.name, recipient, reply)
	case l == nil:
		p.tally("of never", reply)
		if reply == accepted {
			p.w.fail("%s accepts %s, which never existed", p.edge.name, recipient)
		}
	case rejected && (known || old):
		p.tally("of valid", reply)
		p.w.fail("%s rejects %s (accepted before: %t, with all controllers for %v): %q; %s", p.edge.name, recipient,
			known, began.Sub(l.since).Round(time.Millisecond), reply, l.story())
	case deferred && known:
		p.tally("of known", reply)
		p.w.fail("%s defers %s, which it has accepted: %q; %s", p.edge.name, recipient, reply, l.story())
	case l.shownBy > 0:
		p.tally("of valid", reply)
		if reply == accepted && l.first {
			p.learned[recipient] = true
		}
	default:
		p.tally("of gone", reply)
		if reply == accepted {
			if now := (gone{recipient, l.goneAt, began}); now.lasted() > p.oldestGone.lasted() {
				p.oldestGone = now
			}
		}
	}
}

// lasted returns how long the address was accepted after its loss.
func (g gone) lasted() time.Duration { return g.accepted.Sub(g.lost) }

// tally counts an answer.
func (p *prober) tally(of, reply string) {
	class := "250"
	if reply != accepted {
		class, _, _ = strings.Cut(reply, " ")
	}
	p.count[of+" "+class]++
}

// askAll asks for every address once, after the fleet has come to rest: each answer is certain then.
func (p *prober) askAll() {
	s, err := openSession(p.w.t.Context(), p.edge)
	if err != nil {
		p.w.t.Errorf("%s: %v", p.edge.name, err)
		return
	}
	defer s.Close()
	p.w.truth.mu.Lock()
	defer p.w.truth.mu.Unlock()
	for recipient, l := range p.w.truth.lives {
		reply, err := s.ask(recipient)
		if err != nil {
			p.w.t.Errorf("%s: %s: %v", p.edge.name, recipient, err)
			return
		}
		if valid := l.shownBy == controllers; valid != (reply == accepted) ||
			!valid && !strings.HasPrefix(reply, "550") {
			p.w.fail("%s at rest: %s, valid %t: %q; %s", p.edge.name, recipient, valid, reply, l.story())
		}
	}
}

// summary returns the figures of the prober.
func (p *prober) summary() string {
	g := p.oldestGone
	return fmt.Sprintf("%s: %d questions in %d sessions, %d without an answer; %v; a lost address accepted for at "+
		"most %.1f s: %s, lost at %.1f s", p.edge.name, p.asked, p.sessions, p.noAnswer, p.count, g.lasted().Seconds(),
		g.address, g.lost.Sub(p.w.began).Seconds())
}
