// Package metrics counts what the daemon does and serves the counters to Prometheus.
//
// [Metrics.Handler] serves them together with the state of the daemon at the moment of the
// scrape, and beside them /healthz and /readyz for supervisors. No label holds an address
// or a client.
package metrics

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rcpt-milter/control"
)

// statusTimeout limits Status during a scrape.
const statusTimeout = 10 * time.Second

// Backend returns the state of the daemon. It must be fast, because every scrape calls it.
type Backend interface {
	Status(context.Context) (control.Status, error)
	// Ready does what the daemon does for a recipient. It returns an error if that takes too long.
	Ready(context.Context) error
}

// Metrics are the counters of the daemon. New makes them. All methods may be called
// concurrently.
type Metrics struct {
	registry *prometheus.Registry
	decision prometheus.Histogram
	passes   *prometheus.CounterVec
	lag      *prometheus.HistogramVec
}

// New returns metrics with the version of this program.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rcpt_milter_decision_seconds",
			Help:    "Time from a RCPT to its verdict.",
			Buckets: []float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.25, 1},
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rcpt_milter_sync_passes_total",
			Help: "Passes that ended, by directory, kind (full, incremental) and result (ok, held, failed).",
		}, []string{"directory", "kind", "result"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rcpt_milter_sync_lag_seconds",
			Help: "Time from a change of addresses on the domain controller to its effect here, in incremental " +
				"passes.",
			Buckets: []float64{0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 7200},
		}, []string{"directory"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "rcpt_milter_build_info",
		Help:        "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.decision, m.passes, m.lag, build)
	return m
}

// ObserveDecision records the duration of one decision.
func (m *Metrics) ObserveDecision(took time.Duration) { m.decision.Observe(took.Seconds()) }

// PassDone counts an ended pass: kind is full or incremental, result one of the Result
// constants. The first pass creates all combinations, so a rate includes the first failure.
func (m *Metrics) PassDone(directory, kind, result string) {
	for _, k := range []string{"full", "incremental"} {
		for _, r := range []string{control.ResultOK, control.ResultHeld, control.ResultFailed} {
			m.passes.WithLabelValues(directory, k, r)
		}
	}
	m.passes.WithLabelValues(directory, kind, result).Inc()
}

// ObserveLag records the time from a change on a domain controller to its effect. If a clock
// was set back, it records zero.
func (m *Metrics) ObserveLag(directory string, lag time.Duration) {
	m.lag.WithLabelValues(directory).Observe(max(0, lag.Seconds()))
}

// statusCollector collects Status at the time of the scrape.
type statusCollector struct {
	backend Backend
	log     *slog.Logger

	decisions, wouldRefuse       *prometheus.Desc
	domainDecisions              *prometheus.Desc
	sessions, addresses, objects *prometheus.Desc
	lastSuccess, usnLag, held    *prometheus.Desc
	storeVerified, alarms        *prometheus.Desc
	storeState, storeSetAside    *prometheus.Desc
	state, failing, warnings     *prometheus.Desc
	certificate                  *prometheus.Desc
	password, account            *prometheus.Desc
	reloadFailed, unparsed       *prometheus.Desc
	harvest, emptyDomains        *prometheus.Desc
	logDropped                   *prometheus.Desc

	confirm, harvestNetworks, harvestOctets *prometheus.Desc
	harvestWouldLimit, socketmap            *prometheus.Desc

	exportCurrent, exportEntries, exportFailing *prometheus.Desc
	fileFailing, fileEntries, fileUnread        *prometheus.Desc
	fileStale                                   *prometheus.Desc

	listenerUp, listenerRestored                           *prometheus.Desc
	connections, connectionsLimit, atLimit, acceptFailures *prometheus.Desc
}

func newStatusCollector(backend Backend, log *slog.Logger) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rcpt_milter_"+name, help, labels, nil)
	}
	return &statusCollector{
		backend: backend, log: log,
		decisions: desc("decisions_total", "Recipients judged, by verdict.", "verdict"),
		wouldRefuse: desc("would_refuse_total", "Recipients that only mode report kept from being refused, by verdict.",
			"verdict"),
		// Labels are entries of domains, so there are few.
		domainDecisions: desc("domain_decisions_total", "Recipients judged, by domain of the configuration and "+
			"outcome (accepted, refused, temporary, report-only).", "domain", "outcome"),
		sessions:  desc("sessions", "Open milter connections."),
		addresses: desc("addresses", "Addresses in the index that have an owner."),
		objects:   desc("objects", "Directory objects that own an address."),
		lastSuccess: desc("sync_last_success_timestamp_seconds", "When the last good pass began, by directory.",
			"directory"),
		usnLag: desc("sync_usn_lag", "Update sequence numbers that the index is behind its domain controller.",
			"directory"),
		held:   desc("held_removals", "Addresses whose removal waits for approval.", "directory"),
		alarms: desc("alarms", "Alarms in status: conditions that need repair."),
		emptyDomains: desc("empty_domains", "Enforced domains of which no address is known: recipients there get 451, "+
			"or are accepted (when_not_ready)."),
		storeVerified: desc("store_verified_timestamp_seconds",
			"When the checksums of the store were last found good."),
		storeState: desc("store_state", "1 for the state that the store is in (ok, read_only, damaged, failed), 0 for "+
			"the others.", "state"),
		storeSetAside: desc("store_set_aside", "Whether a damaged store that was set aside is still there."),
		state: desc("directory_state", "1 for the state that a directory is in (fresh, late, stale, not_ready), 0 "+
			"for the others.", "directory", "state"),
		failing: desc("sync_failing", "Whether the last pass failed, by directory.", "directory"),
		warnings: desc("warnings",
			"Warnings in status, by directory: conditions that work but should be changed.", "directory"),
		certificate: desc("directory_certificate_expiry_timestamp_seconds",
			"When the first certificate in the chain of the domain controller expires, by directory.", "directory"),
		password: desc("account_password_expiry_timestamp_seconds",
			"When the password of the account of a directory expires, by directory.", "directory"),
		account: desc("account_expiry_timestamp_seconds", "When the account of a directory expires, by directory.",
			"directory"),
		reloadFailed: desc("reload_failed", "Whether the configuration file in place was rejected."),
		unparsed:     desc("unparsed_values", "Values of the directories that are no readable address."),
		harvest:      desc("harvest_clients", "Client networks that are over their harvest limit."),

		logDropped: desc("log_dropped_lines_total", "Lines of the log that its destination did not take."),

		confirm: desc("confirm_total", "Recipients that confirm checked or should have checked, by result (found, "+
			"not_found, remembered, over_budget, unanswered).", "result"),
		harvestNetworks: desc("harvest_networks", "Client networks with counters of the harvest limit."),
		harvestOctets:   desc("harvest_memory_bytes", "Memory of the counters of the harvest limit."),
		harvestWouldLimit: desc("harvest_would_limit_total",
			"Recipients that the harvest limit would have deferred if its mode were not report."),

		socketmap: desc("socketmap_lookups_total", "Lookups in the socketmap, by answer (ok, not_found, temp, perm).",
			"answer"),

		exportCurrent: desc("export_current_timestamp_seconds", "When the file of export was last current."),
		exportEntries: desc("export_entries", "Entries of the last list that export wrote."),
		exportFailing: desc("export_failing", "Whether the file of export or its command failed."),

		// Labels are paths in the configuration, so there are few.
		fileFailing: desc("accept_file_failing",
			"Whether an accept file cannot be used and its last good copy stays in effect.", "file"),
		fileStale: desc("accept_file_stale",
			"Whether an accept file is older than accept_files_max_age or may lack entries, and unknown recipients "+
				"get 451.",
			"file"),
		fileEntries: desc("accept_file_entries", "Addresses and domains of an accept file that are in effect.", "file"),
		fileUnread:  desc("accept_file_unread_lines", "Lines of an accept file that do not count.", "file"),

		// Labels are listeners of the configuration, so there are few.
		listenerUp: desc("listener_up",
			"Whether clients can connect to a listener (milter, socketmap, control, page, metrics).", "listener",
			"socket"),
		listenerRestored: desc("listener_restored_total",
			"How often the socket file of a listener was gone and was made again.", "listener", "socket"),
		connections:      desc("connections", "Open connections, by listener.", "listener"),
		connectionsLimit: desc("connections_limit", "Highest number of open connections, by listener.", "listener"),
		atLimit: desc("connections_at_limit_total",
			"Connections that came when the limit was reached, by listener.", "listener"),
		acceptFailures: desc("accept_errors_total",
			"Failed attempts to accept a connection, such as for lack of file descriptors, by listener.", "listener"),
	}
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.decisions, c.wouldRefuse, c.domainDecisions, c.sessions, c.addresses,
		c.objects, c.lastSuccess, c.usnLag, c.held, c.storeVerified, c.alarms,
		c.certificate, c.password, c.account,
		c.state, c.failing, c.warnings, c.reloadFailed, c.unparsed, c.harvest, c.emptyDomains, c.logDropped,

		c.confirm, c.harvestNetworks, c.harvestOctets, c.harvestWouldLimit, c.socketmap,
		c.exportCurrent, c.exportEntries, c.exportFailing, c.fileFailing, c.fileStale, c.fileEntries,
		c.fileUnread, c.listenerUp, c.listenerRestored, c.connections, c.connectionsLimit, c.atLimit,
		c.acceptFailures} {
		out <- d
	}
}

// Collect implements prometheus.Collector. Without a status its metrics are absent from the
// scrape.
func (c *statusCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	s, err := c.backend.Status(ctx)
	if err != nil {
		c.log.Warn("no status for metrics", "error", err)
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for verdict, n := range s.Decisions {
		send(c.decisions, prometheus.CounterValue, float64(n), verdict)
	}
	for verdict, n := range s.WouldRefuse {
		send(c.wouldRefuse, prometheus.CounterValue, float64(n), verdict)
	}
	for domain, outcomes := range s.DomainDecisions {
		for outcome, n := range outcomes {
			send(c.domainDecisions, prometheus.CounterValue, float64(n), domain, outcome)
		}
	}
	send(c.sessions, prometheus.GaugeValue, float64(s.Sessions))
	send(c.addresses, prometheus.GaugeValue, float64(s.Addresses))
	send(c.objects, prometheus.GaugeValue, float64(s.Objects))
	send(c.alarms, prometheus.GaugeValue, float64(len(s.Alarms)))
	send(c.emptyDomains, prometheus.GaugeValue, float64(len(s.EmptyDomains)))
	send(c.unparsed, prometheus.GaugeValue, float64(s.Unparsed))
	send(c.harvest, prometheus.GaugeValue, float64(s.HarvestClients))
	send(c.logDropped, prometheus.CounterValue, float64(s.LogDropped))
	send(c.reloadFailed, prometheus.GaugeValue, oneIf(s.ReloadError != ""))
	if !s.StoreVerified.IsZero() {
		send(c.storeVerified, prometheus.GaugeValue, seconds(s.StoreVerified))
	}
	for _, state := range control.StoreStates {
		send(c.storeState, prometheus.GaugeValue, oneIf(s.StoreState == state), string(state))
	}
	send(c.storeSetAside, prometheus.GaugeValue, oneIf(s.StoreSetAside != ""))
	c.queries(s, send)
	c.acceptFiles(s, send)
	c.export(s.Export, send)
	c.listeners(s, send)
	for _, d := range s.Directories {
		send(c.held, prometheus.GaugeValue, float64(d.HeldRemovals), d.Name)
		if d.State == control.Retired { // no longer read
			continue
		}
		if !d.LastSuccess.IsZero() {
			send(c.lastSuccess, prometheus.GaugeValue, seconds(d.LastSuccess), d.Name)
		}
		send(c.usnLag, prometheus.GaugeValue, float64(d.USNLag()), d.Name)
		send(c.failing, prometheus.GaugeValue, oneIf(d.LastError != ""), d.Name)
		send(c.warnings, prometheus.GaugeValue, float64(len(d.Warnings)), d.Name)
		c.expiry(d, send)
		for _, state := range []control.State{control.Fresh, control.Late, control.Stale, control.NotReady} {
			send(c.state, prometheus.GaugeValue, oneIf(d.State == state), d.Name, string(state))
		}
	}
}

// expiry collects the times of a directory that are known.
func (c *statusCollector) expiry(d control.DirectoryStatus, send func(*prometheus.Desc, prometheus.ValueType, float64,
	...string)) {
	if d.Expiry == nil {
		return
	}
	for desc, at := range map[*prometheus.Desc]control.Time{c.certificate: d.Expiry.Certificate,
		c.password: d.Expiry.Password, c.account: d.Expiry.Account} {
		if !at.IsZero() {
			send(desc, prometheus.GaugeValue, seconds(at), d.Name)
		}
	}
}

// queries collects confirm, the socketmap and the harvest limit. If confirm or the socketmap is
// disabled, it has no counts.
func (c *statusCollector) queries(s control.Status, send func(*prometheus.Desc, prometheus.ValueType, float64,
	...string)) {
	if s.Confirm != nil {
		for result, n := range map[string]int64{
			"found": s.Confirm.Found, "not_found": s.Confirm.NotFound, "remembered": s.Confirm.Remembered,
			"over_budget": s.Confirm.OverBudget, "unanswered": s.Confirm.Unanswered,
		} {
			send(c.confirm, prometheus.CounterValue, float64(n), result)
		}
	}
	if s.Socketmap != nil {
		for answer, n := range map[string]int64{"ok": s.Socketmap.OK, "not_found": s.Socketmap.NotFound,
			"temp": s.Socketmap.Temp, "perm": s.Socketmap.Perm} {
			send(c.socketmap, prometheus.CounterValue, float64(n), answer)
		}
	}
	var harvest control.HarvestStatus
	if s.Harvest != nil {
		harvest = *s.Harvest
	}
	send(c.harvestNetworks, prometheus.GaugeValue, float64(harvest.Networks))
	send(c.harvestOctets, prometheus.GaugeValue, float64(harvest.Octets))
	send(c.harvestWouldLimit, prometheus.CounterValue, float64(harvest.WouldLimit))
}

// export collects the state of the file of export, if there is one.
func (c *statusCollector) export(e *control.ExportStatus, send func(*prometheus.Desc, prometheus.ValueType, float64,
	...string)) {
	if e == nil {
		return
	}
	if !e.Current.IsZero() {
		send(c.exportCurrent, prometheus.GaugeValue, seconds(e.Current))
	}
	send(c.exportEntries, prometheus.GaugeValue, float64(e.Entries))
	send(c.exportFailing, prometheus.GaugeValue, oneIf(e.Trouble != ""))
}

// acceptFiles collects the state of each accept file once.
func (c *statusCollector) acceptFiles(s control.Status, send func(*prometheus.Desc, prometheus.ValueType, float64,
	...string)) {
	sent := map[string]bool{}
	for _, f := range s.AcceptFiles {
		file := strings.ToValidUTF8(f.File, "\ufffd")
		if sent[file] {
			continue
		}
		sent[file] = true
		send(c.fileFailing, prometheus.GaugeValue, oneIf(f.Trouble != ""), file)
		send(c.fileStale, prometheus.GaugeValue, oneIf(f.State == control.Stale), file)
		send(c.fileEntries, prometheus.GaugeValue, float64(f.Entries), file)
		send(c.fileUnread, prometheus.GaugeValue, float64(f.Unread), file)
	}
}

// listeners collects the listeners. Those for Postfix share their connections.
func (c *statusCollector) listeners(s control.Status, send func(*prometheus.Desc, prometheus.ValueType, float64,
	...string)) {
	type socket struct{ name, address string }
	sent, counted := map[socket]bool{}, map[string]bool{}
	for _, l := range s.Listeners {
		address := strings.ToValidUTF8(l.Address, "\ufffd")
		if at := (socket{l.Name, address}); !sent[at] {
			sent[at] = true
			send(c.listenerUp, prometheus.GaugeValue, oneIf(l.Trouble == ""), l.Name, address)
			send(c.listenerRestored, prometheus.CounterValue, float64(l.Restored), l.Name, address)
		}
		if counted[l.Name] {
			continue
		}
		counted[l.Name] = true
		send(c.connections, prometheus.GaugeValue, float64(l.Connections), l.Name)
		send(c.connectionsLimit, prometheus.GaugeValue, float64(l.Limit), l.Name)
		send(c.atLimit, prometheus.CounterValue, float64(l.AtLimit), l.Name)
		send(c.acceptFailures, prometheus.CounterValue, float64(l.AcceptErrors), l.Name)
	}
}

func seconds(t control.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
