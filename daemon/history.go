package daemon

import (
	"context"
	"time"

	"rcpt-milter/control/web"
)

// historyInterval is how often the counters are read for the chart of the status page.
const historyInterval = 10 * time.Second

// recordHistory records counters until ctx ends.
func (d *daemon) recordHistory(ctx context.Context) error {
	ticker := time.NewTicker(historyInterval)
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
	d.history.Observe(time.Now(), byName(c.Decisions()), byName(c.WouldRefuse()))
}

// statusPage returns the status page. Its settings follow a reload.
func (d *daemon) statusPage(b backend) *web.Page {
	return web.New(web.Config{
		On:    func() bool { return d.config.Load().ShowsPage() },
		Hosts: func() []string { return d.config.Load().Page.Hosts },
	}, b, d.history, d.log)
}
