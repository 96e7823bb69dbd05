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

// maxQueries limits the queries that the hub answers at once. Further queries get no answer.
const maxQueries = 16

// Queries arrive on the connection that the hub publishes over. After a flood, the hub unsubscribes for
// floodPause, and the engine drops the queries.
const (
	floodCost   = 5000 // limit within floodWithin; a query costs 1, plus 1 for each KiB
	floodWithin = time.Second
	floodPause  = 10 * time.Second // pause during which no edge gets an answer
	maxWaiting  = 1000             // queries buffered in this process
)

// answer answers the queries of edges until ctx ends.
func (p *Publisher) answer(ctx context.Context) {
	if p.config.Find == nil {
		return
	}
	for ctx.Err() == nil {
		err := p.answerUntilFlood(ctx)
		if ctx.Err() != nil {
			return
		}
		p.config.Log.Warn("not answering queries of edges for some time", "error", err)
		timer := time.NewTimer(p.pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errFlood reports that edges send more queries than a hub can answer.
var errFlood = errors.New("an edge floods the hub with queries; find it in the log of the engine and remove it")

// answerUntilFlood answers queries until ctx ends. After a flood it returns errFlood.
func (p *Publisher) answerUntilFlood(ctx context.Context) error {
	nc, _, err := p.config.Client.js(ctx)
	if err != nil {
		return err
	}
	flooded := make(chan struct{})
	seen := flood{limit: floodCost, within: floodWithin, over: sync.OnceFunc(func() { close(flooded) })}
	free := make(chan struct{}, maxQueries)
	sub, err := nc.QueueSubscribe(findSubject(p.config.Directory), "hub", func(m *nats.Msg) {
		seen.add(time.Now(), 1+len(m.Data)>>10)
		if !strings.HasPrefix(m.Reply, "_INBOX.") {
			return // a reply subject elsewhere could write to a stream
		}
		select {
		case free <- struct{}{}:
			go func() {
				defer func() { <-free }()
				p.reply(ctx, m)
			}()
		default: // overloaded: the edge times out and cannot tell
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

// flood calls over when the costs within a short interval exceed the limit. It is for one goroutine only.
type flood struct {
	limit  int
	within time.Duration
	over   func()

	since time.Time // start of the current interval
	cost  int       // sum of the costs in the current interval
}

func (f *flood) add(now time.Time, cost int) {
	if now.Sub(f.since) >= f.within {
		f.since, f.cost = now, 0
	}
	if f.cost += cost; f.cost > f.limit {
		f.over()
	}
}

// reply answers one query.
func (p *Publisher) reply(ctx context.Context, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var got answer
	err := safely.Do(p.config.Log, "query of an edge", func() (err error) {
		got, err = p.find(ctx, m.Data)
		return err
	})
	if err != nil {
		got = answer{Error: printable(err.Error(), maxError)}
	}
	if data, err := json.Marshal(got); err == nil {
		_ = m.Respond(data) // an edge without an answer cannot tell
	}
}

// find answers one query.
func (p *Publisher) find(ctx context.Context, data []byte) (got answer, err error) {
	var q query
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

// maxError limits an error text sent to an edge, in bytes.
const maxError = 500

// printable returns text in a form that validText accepts, cut to limit bytes.
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
