package daemon

import (
	"context"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/web"
)

// historyInterval is the interval between samples for the chart on the status page.
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
	d.history.Observe(time.Now(), control.JudgedIn(d.domains.Outcomes()))
}

// pageHosts returns the additional host names of the status page and of the metrics.
func (d *daemon) pageHosts() []string { return d.config.Load().Page.Hosts }

// statusPage returns the status page. A reload changes its settings.
func (d *daemon) statusPage(b backend) *web.Page {
	// A change of page.listen needs a restart. Over TCP, the page requires tokens even if a reload removes
	// page.tokens.
	tcp := d.config.Load().Page.Listen.Network != "unix"
	return web.New(web.Config{
		On: func() bool { return d.config.Load().ShowsPage() }, Hosts: d.pageHosts,
		NeedsToken: func() bool { return tcp || d.config.Load().Page.Tokens != "" },
		Tokens:     d.pageTokens, Tenants: b, API: control.NewServer(b, d.version, d.log).ReadHandler(),
	}, b, d.history, d.log)
}

// pageTokens reads the tokens of the status page.
func (d *daemon) pageTokens() ([]web.Token, error) {
	read, err := config.ReadTokens(d.config.Load().Page.Tokens)
	if err != nil {
		return nil, err
	}
	tokens := make([]web.Token, len(read))
	for i, t := range read {
		tokens[i] = web.Token{Sum: t.Sum, All: t.All, Scope: control.Scope{}}
		for _, domain := range t.Domains {
			tokens[i].Scope[domain] = true
		}
	}
	return tokens, nil
}

// tokenTrouble returns why the page rejects every token. It returns an empty string if it does not, or needs no
// tokens.
func (b backend) tokenTrouble() string {
	c := b.config.Load()
	if c.Page.Tokens == "" || b.page == nil || !c.ShowsPage() { // b.page is nil for a stopped daemon
		return ""
	}
	if _, err := b.pageTokens(); err != nil {
		return "the status page rejects every token: " + err.Error()
	}
	return ""
}
