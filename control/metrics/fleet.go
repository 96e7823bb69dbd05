package metrics

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rcpt-milter/control"
)

// fleetCollector collects what a daemon does as a hub, an edge or an engine. A daemon that is none of
// them has none of these metrics.
type fleetCollector struct {
	backend Backend
	now     func() time.Time

	connected, sequence, digestEqual, unreadable   *prometheus.Desc
	certificate                                    *prometheus.Desc
	leading, published, publishedAt, pending       *prometheus.Desc
	edges, edgeLag, edgeBehind                     *prometheus.Desc
	engineUp, engineDisk, engineMax, engineExpires *prometheus.Desc
}

func newFleetCollector(backend Backend) *fleetCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("rcpt_milter_"+name, help, labels, nil)
	}
	return &fleetCollector{
		backend: backend, now: time.Now,
		connected: desc("stream_connected", "Whether the engine of a directory is connected, by directory.",
			"directory"),
		sequence:    desc("stream_sequence", "Sequence of the hub's state that this edge has read.", "directory"),
		digestEqual: desc("stream_digest_equal", "Whether the index of this edge equals that of the hub.", "directory"),
		unreadable: desc("stream_unreadable_objects", "Objects whose messages cannot be read and that keep their "+
			"addresses.", "directory"),
		certificate: desc("stream_certificate_expiry_timestamp_seconds", "When the certificates of this host for the "+
			"engine expire, those of the authority included.", "directory"),
		leading: desc("publish_leading", "Whether this hub publishes the directory (1) or another one may (0).",
			"directory"),
		published:   desc("publish_sequence", "Sequence of the state that was published last.", "directory"),
		publishedAt: desc("publish_timestamp_seconds", "When this hub published last.", "directory"),
		pending:     desc("publish_pending_objects", "Changed objects that are not published yet.", "directory"),
		edges: desc("edges", "Edges that follow this hub, by state (fresh, late, stale, not_ready, silent).",
			"directory", "state"),
		// Labels are names of enrolled edges, so there are few.
		edgeLag: desc("edge_lag_seconds", "Time from the hub's state to its effect, as the edge reported.", "directory",
			"edge"),
		edgeBehind: desc("edge_sequence_behind", "Messages up to the last change that the edge has not read.",
			"directory", "edge"),
		engineUp:   desc("engine_up", "Whether the engine of this daemon is ready."),
		engineDisk: desc("engine_disk_bytes", "Disk space of the streams of the engine."),
		engineMax:  desc("engine_disk_limit_bytes", "Highest disk space of the streams of the engine."),
		engineExpires: desc("engine_certificate_expiry_timestamp_seconds",
			"When the first certificate of the engine expires."),
	}
}

// Describe implements prometheus.Collector.
func (c *fleetCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connected, c.certificate, c.sequence, c.digestEqual, c.unreadable,
		c.leading, c.published,
		c.publishedAt, c.pending, c.edges, c.edgeLag, c.edgeBehind, c.engineUp, c.engineDisk, c.engineMax,
		c.engineExpires} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *fleetCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	s, err := c.backend.Status(ctx)
	if err != nil {
		return // the other collector has logged it
	}
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		for i := range labels { // an edge chooses its name itself
			labels[i] = strings.ToValidUTF8(labels[i], "\ufffd")
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, d := range s.Directories {
		if d.Stream == nil {
			continue
		}
		send(c.connected, oneIf(d.Stream.Link.Connected), d.Name)
		if at := d.Stream.Link.CertificateExpires; !at.IsZero() {
			send(c.certificate, seconds(at), d.Name)
		}
		send(c.sequence, float64(d.USN), d.Name)
		send(c.unreadable, float64(d.Stream.Unreadable+d.Stream.TooLarge), d.Name)
		if d.Stream.DigestOK != nil {
			send(c.digestEqual, oneIf(*d.Stream.DigestOK), d.Name)
		}
	}
	for _, p := range s.Publish {
		send(c.connected, oneIf(p.Link.Connected), p.Directory)
		if at := p.Link.CertificateExpires; !at.IsZero() {
			send(c.certificate, seconds(at), p.Directory)
		}
		send(c.leading, oneIf(p.Leading), p.Directory)
		send(c.published, float64(p.Sequence), p.Directory)
		send(c.pending, float64(p.Pending), p.Directory)
		if !p.Published.IsZero() {
			send(c.publishedAt, seconds(p.Published), p.Directory)
		}
	}
	c.collectEdges(s, send)
	if e := s.Engine; e != nil {
		send(c.engineUp, oneIf(e.Running && e.Ready))
		send(c.engineDisk, float64(e.Disk))
		send(c.engineMax, float64(e.MaxDisk))
		if !e.Expires.IsZero() {
			send(c.engineExpires, seconds(e.Expires))
		}
	}
}

func (c *fleetCollector) collectEdges(s control.Status, send func(*prometheus.Desc, float64, ...string)) {
	type group struct {
		directory string
		state     control.State
	}
	count := map[group]int{}
	states := []control.State{control.Fresh, control.Late, control.Stale, control.NotReady, control.EdgeSilent}
	for _, row := range s.FleetRows(c.now()) {
		state := row.State
		if !slices.Contains(states, state) { // of a later version
			state = control.NotReady
		}
		count[group{row.Directory, state}]++
		send(c.edgeLag, row.Lag, row.Directory, row.Name)
		send(c.edgeBehind, float64(row.Behind), row.Directory, row.Name)
	}
	for _, p := range s.Publish {
		for _, state := range states {
			send(c.edges, float64(count[group{p.Directory, state}]), p.Directory, string(state))
		}
	}
}
