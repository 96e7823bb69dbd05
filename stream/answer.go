package stream

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/address"
	"rcpt-milter/internal/safely"
)

// maxQuestions is the number of questions of edges that are answered at once. The others get no
// answer.
const maxQuestions = 16

// Questions arrive over the connection on which the hub publishes. After a flood, the hub accepts none for
// floodPause, and the engine drops them.
const (
	floodCost   = 5000             // of the questions within floodWithin; each costs 1, and 1 more for each KiB
	floodWithin = time.Second      //
	floodPause  = 10 * time.Second // in which no edge gets an answer
	maxWaiting  = 1000             // questions that wait in this process
)

// answer answers questions of edges until ctx ends.
func (p *Publisher) answer(ctx context.Context) {
	if p.config.Find == nil {
		return
	}
	for ctx.Err() == nil {
		err := p.answerUntilFlood(ctx)
		if ctx.Err() != nil {
			return
		}
		p.config.Log.Warn("edges get no answers for some time", "error", err)
		timer := time.NewTimer(p.pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errFlood means that edges ask more than a hub can answer.
var errFlood = errors.New("an edge floods the hub with questions; find it in the log of the engine and remove it")

// answerUntilFlood answers questions until ctx ends or errFlood.
func (p *Publisher) answerUntilFlood(ctx context.Context) error {
	nc, _, err := p.config.Client.js(ctx)
	if err != nil {
		return err
	}
	flooded := make(chan struct{})
	seen := flood{limit: floodCost, within: floodWithin, over: sync.OnceFunc(func() { close(flooded) })}
	free := make(chan struct{}, maxQuestions)
	sub, err := nc.QueueSubscribe(findSubject(p.config.Directory), "hub", func(m *nats.Msg) {
		seen.add(time.Now(), 1+len(m.Data)>>10)
		if !strings.HasPrefix(m.Reply, "_INBOX.") {
			return // a hub must not answer into a stream
		}
		select {
		case free <- struct{}{}:
			go func() {
				defer func() { <-free }()
				p.reply(ctx, m)
			}()
		default: // too many questions: without an answer, the edge cannot tell
		}
	})
	if err != nil {
		return explain(err)
	}
	defer briefly(func() { _ = sub.Unsubscribe() }) // the connection may be closed already
	if err := sub.SetPendingLimits(maxWaiting, maxWaiting<<10); err != nil {
		return explain(err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-flooded:
		return errFlood
	}
}

// flood notices when something costs too much in a short time. It belongs to one goroutine.
type flood struct {
	limit  int
	within time.Duration
	over   func()

	since time.Time // begin of the present interval
	cost  int       // in it
}

func (f *flood) add(now time.Time, cost int) {
	if now.Sub(f.since) >= f.within {
		f.since, f.cost = now, 0
	}
	if f.cost += cost; f.cost > f.limit {
		f.over()
	}
}

// reply answers one question.
func (p *Publisher) reply(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var got answer
	err := safely.Do(p.config.Log, "question of an edge", func() (err error) {
		got, err = p.find(ctx, m.Data)
		return err
	})
	if err != nil {
		got = answer{Error: printable(err.Error(), maxError)}
	}
	if data, err := json.Marshal(got); err == nil {
		_ = m.Respond(data) // an edge without an answer knows that it has none
	}
}

// find finds the answer to a question.
func (p *Publisher) find(ctx context.Context, data []byte) (got answer, err error) {
	var q question
	if err := decode(data, &q); err != nil {
		return got, err
	}
	a, err := address.Parse(q.Address)
	if err != nil {
		return got, err
	}
	got.Found, got.InternalOnly, err = p.config.Find(ctx, a)
	return got, err
}

// maxError limits the bytes of an error that travels.
const maxError = 500

// printable returns text that validText accepts, of at most limit bytes.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

func subjectsOf(filter string) jetstream.StreamInfoOpt { return jetstream.WithSubjectFilter(filter) }
