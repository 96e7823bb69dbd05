package main

import (
	"context"
	"time"

	"rcpt-milter/control/web"
)

// rememberEvery is how often the counters are looked at for the chart of the page.
const rememberEvery = 10 * time.Second

// remember feeds the history until ctx ends.
func (d *daemon) remember(ctx context.Context) error {
	ticker := time.NewTicker(rememberEvery)
	defer ticker.Stop()
	for {
		d.observeCounters()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (d *daemon) observeCounters() {
	c := d.server.Counters()
	d.history.Observe(time.Now(), words(c.Decisions()), words(c.WouldRefuse()))
}

// statusPage is the page for people, as the configuration in force has it.
func (d *daemon) statusPage(b backend) *web.Page {
	return web.New(web.Config{
		On:    func() bool { return d.config.Load().ShowsPage() },
		Hosts: func() []string { return d.config.Load().Page.Hosts },
	}, b, d.history, d.log)
}
