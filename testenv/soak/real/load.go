package real

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// The sizes of the sessions of clients.
const (
	honestBatch       = 50 // recipients in one transaction
	honestTransaction = 20 // transactions in one session
	hostileBatch      = 10
	hostileNetworks   = 4000
	// catchUp is how far behind its rate a client may be and still make up for it.
	catchUp = 5 * time.Second
)

// client asks one site about recipients, in one session after another.
type client struct {
	name  string
	site  *site
	rnd   *rand.Rand
	rate  float64 // recipients a second
	batch int
	// transactions is the number of transactions in a session.
	transactions int
	address      func() string // of the next session
	recipient    func() string // the next one to ask about
}

// clients returns all clients of a site. The seed decides what they ask.
func (s *Soak) clients(site *site) []*client {
	o := s.options
	anchors, pool := s.universe()
	var list []*client
	hostileRate := o.Rate * hostileShare
	for n := range o.Honest {
		rnd := s.random(fmt.Sprint("honest ", site.name, n))
		list = append(list, &client{name: fmt.Sprint("honest", n), site: site, rnd: rnd,
			rate: (o.Rate - hostileRate) / float64(o.Honest), batch: honestBatch, transactions: honestTransaction,
			address: func() string { return fmt.Sprintf("203.0.%d.%d", 113+n, 1+rnd.IntN(250)) },
			recipient: func() string {
				switch n := rnd.IntN(100); {
				case n < 70:
					return anchors[rnd.IntN(len(anchors))]
				case n < 95:
					return pool[rnd.IntN(len(pool))]
				default:
					return fmt.Sprintf("typing.error%d@corp.example", rnd.IntN(1000))
				}
			}})
	}
	for n := range o.Hostile {
		rnd := s.random(fmt.Sprint("hostile ", site.name, n))
		list = append(list, &client{name: fmt.Sprint("hostile", n), site: site, rnd: rnd,
			rate: hostileRate / float64(o.Hostile), batch: hostileBatch, transactions: honestTransaction,
			address: func() string {
				network := rnd.IntN(hostileNetworks)
				return fmt.Sprintf("100.%d.%d.%d", 64+network/250, network%250, 1+rnd.IntN(250))
			},
			recipient: func() string {
				switch n := rnd.IntN(100); {
				case n < 3:
					return anchors[rnd.IntN(len(anchors))]
				case n < 8:
					return pool[rnd.IntN(len(pool))]
				default:
					return fmt.Sprintf("guess%d@%s", rnd.IntN(1_000_000),
						[]string{"corp.example", "lab.sub.example"}[n%2])
				}
			}})
	}
	return list
}

// universe returns all addresses that exist at some time.
func (s *Soak) universe() (anchors, pool []string) {
	for _, w := range s.worlds {
		anchors = append(anchors, w.model.AllAnchors()...)
		pool = append(pool, w.model.Pool()...)
	}
	return anchors, pool
}

// work asks until the context ends.
func (s *Soak) work(ctx context.Context, c *client) {
	next := time.Now()
	for ctx.Err() == nil {
		if err := s.session(ctx, c, &next); err != nil && ctx.Err() == nil {
			s.report.sessionLost()
			sleep(ctx, 200*time.Millisecond)
		}
	}
}

// session asks in one session. next is when the next transaction is due.
func (s *Soak) session(ctx context.Context, c *client, next *time.Time) error {
	session, err := testenv.DialSMTP(ctx, c.site.smtp())
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.Open(c.address()); err != nil {
		return err
	}
	for range c.transactions {
		if now := time.Now(); now.Sub(*next) > catchUp {
			*next = now
		}
		sleep(ctx, time.Until(*next))
		*next = next.Add(time.Duration(float64(c.batch) / c.rate * float64(time.Second)))
		if more, err := s.transaction(c, session); err != nil || !more {
			return err
		}
	}
	_, err = session.Do("QUIT")
	return err
}

// transaction asks about some recipients at once. It reports whether the session can go on.
func (s *Soak) transaction(c *client, session *testenv.Session) (more bool, err error) {
	recipients := make([]string, c.batch)
	for i := range recipients {
		recipients[i] = c.recipient()
	}
	reply, err := session.Do("MAIL FROM:<" + c.name + "@elsewhere.example>")
	if err != nil {
		return false, err
	}
	if reply.Code() != 250 { // the daemon is away
		s.report.mailDeferred(reply.Code())
		return false, nil
	}
	asked := time.Now()
	if err := session.Send("RCPT TO:<" + strings.Join(recipients, ">\r\nRCPT TO:<") + ">"); err != nil {
		return false, err
	}
	for i, recipient := range recipients {
		reply, err := session.Reply()
		if err != nil {
			s.report.lost(len(recipients) - i)
			return false, err
		}
		s.answer(c, recipient, asked, time.Now(), reply)
		if reply.Code() == 421 {
			s.report.lost(len(recipients) - i - 1)
			return false, nil
		}
	}
	_, err = session.Do("RSET")
	return err == nil, err
}

// answer judges an answer.
func (s *Soak) answer(c *client, recipient string, asked, answered time.Time, reply testenv.Reply) {
	states, right := c.site.oracle.Judge(recipient, asked, answered, classOf(reply.Code()))
	s.report.answered(c.name, states, reply.Code())
	if !right {
		s.wrong(c, recipient, asked, answered, states, reply)
	}
}
