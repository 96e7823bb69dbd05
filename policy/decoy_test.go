package policy

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"rcpt-milter/address"
)

// budgetConfirmer has a budget of searches. Suspects get only a part of it. The directory has new.
type budgetConfirmer struct{ left, kept int }

func (c *budgetConfirmer) Confirm(_ context.Context, a address.Address, suspect bool) (Entry, error) {
	if c.left == 0 || suspect && c.left <= c.kept {
		return Entry{}, errors.New("over the budget of searches")
	}
	c.left--
	return Entry{Known: a.Local() == "new"}, nil
}

// TestDecoysLeaveBudget checks that recipients in refuse do not use up the searches for recipients that may be
// new.
func TestDecoysLeaveBudget(t *testing.T) {
	p := testPolicy(t, func(c *Config) {
		c.Confirm = &budgetConfirmer{left: 5, kept: 2}
		for i := range 10 {
			c.Refuse = append(c.Refuse, fmt.Sprintf("trap%d@enforce.test", i))
		}
	})
	for i := range 10 {
		p.Decide(t.Context(), Query{Recipient: fmt.Sprintf("trap%d@enforce.test", i)})
	}
	if d := p.Decide(t.Context(), Query{Recipient: "new@enforce.test"}); d.Verdict != VerdictConfirmed {
		t.Errorf("verdict %s, %s", d.Verdict, d.Reply)
	}
}

// canceledConfirmer cancels the context during a search.
type canceledConfirmer struct{ cancel context.CancelFunc }

func (c canceledConfirmer) Confirm(ctx context.Context, _ address.Address, _ bool) (Entry, error) {
	c.cancel()
	return Entry{}, ctx.Err()
}

// TestCanceledSearch checks that a search that ends with its session leaves the recipient undecided.
func TestCanceledSearch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := testPolicy(t, func(c *Config) { c.Confirm = canceledConfirmer{cancel} })
	if d := p.Decide(ctx, Query{Recipient: "new@enforce.test"}); d.Verdict != VerdictError {
		t.Errorf("verdict %s, %s", d.Verdict, d.Reply)
	}
}
