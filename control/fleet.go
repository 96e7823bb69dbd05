package control

import (
	"cmp"
	"slices"
	"time"
)

// LinkStatus is the connection to an engine: a NATS server with JetStream.
type LinkStatus struct {
	Connected bool   `json:"connected"`
	Server    string `json:"server"`     // URL of the connected server; empty means none
	Since     Time   `json:"since"`      // start of the connection, or its loss
	LastError string `json:"last_error"` // why there is no connection
	// CertificateExpires is the first expiry of the client certificate and of the authority in the files of
	// this host. It is absent without files.
	CertificateExpires Time `json:"certificate_expires,omitzero"`
}

// StreamStatus is how a directory is followed over a stream. The state of the directory depends on
// the last good pass of the hub, so last_success is that of the hub.
type StreamStatus struct {
	Link LinkStatus `json:"link"`

	Hub        string `json:"hub"`         // name; empty means that no state was read yet
	HubVersion string `json:"hub_version"` // of its program
	Controller string `json:"controller"`  // domain controller that the hub follows
	AsOf       Time   `json:"as_of"`       // last good pass of the hub, by the clock of this daemon; null means unknown
	Generation string `json:"generation"`  // identity of the stream
	Sequence   uint64 `json:"sequence"`    // of the last state that was read
	DigestOK   *bool  `json:"digest_ok"`   // the index equals that of the hub; null means not compared yet
	Unreadable int    `json:"unreadable"`  // objects that keep their addresses, because their messages cannot be read
	// objects that keep their addresses, because they have more than a message can hold
	TooLarge   int    `json:"too_large"`
	SharedName string `json:"shared_name"` // of this edge, if another host reports under it; empty means none does
	NotNewer   bool   `json:"not_newer"`   // the stream shows nothing newer than the index, which stays as it is
}

// PublishStatus is how a hub publishes a directory.
type PublishStatus struct {
	Directory string     `json:"directory"`
	Link      LinkStatus `json:"link"`

	Leading      bool   `json:"leading"`    // this hub publishes
	Holder       string `json:"holder"`     // name of the hub that publishes; empty means unknown
	Generation   string `json:"generation"` // identity of the stream
	Sequence     uint64 `json:"sequence"`   // of the last published state
	Published    Time   `json:"published"`  // time of that state
	Due          uint64 `json:"due"`        // sequence that each edge should have reached; 0 means unknown
	Pending      int64  `json:"pending"`    // changed objects that are not published yet
	Withheld     int64  `json:"withheld"`   // objects that only another hub knew, which stay for replication_lag
	TooLarge     int64  `json:"too_large"`  // objects with more addresses than a message can hold
	LastError    string `json:"last_error"` // why nothing is published
	FailingSince Time   `json:"failing_since"`

	Edges      []EdgeStatus `json:"edges"`       // by name
	EdgesError string       `json:"edges_error"` // why newer reports cannot be read; empty means no error
}

// EdgeStatus is what an edge reported after its last pass.
type EdgeStatus struct {
	Name       string  `json:"name"`
	Version    string  `json:"version"` // of its program
	State      State   `json:"state"`   // of its index when it reported
	Generation string  `json:"generation"`
	Sequence   uint64  `json:"sequence"`   // of the state that it has read
	DigestOK   bool    `json:"digest_ok"`  // its index equals that of the hub
	Addresses  int64   `json:"addresses"`  // that it knows
	Held       int64   `json:"held"`       // addresses whose removal it holds
	Lag        float64 `json:"lag"`        // seconds from the state of the hub to its effect at the edge
	LastError  string  `json:"last_error"` // of its last pass
	Reported   Time    `json:"reported"`
}

// EngineStatus is the embedded NATS server of this daemon.
type EngineStatus struct {
	Listen  string   `json:"listen"`
	URLs    []string `json:"urls"`    // where hubs and edges reach it
	Running bool     `json:"running"` // it accepts connections
	Ready   bool     `json:"ready"`   // streams can be read and written
	Clients int      `json:"clients"` // connected hubs and edges
	Members int      `json:"members"` // enrolled hubs and edges
	// names of edges that may not connect for some time, because they sent too much
	Flooding  []string `json:"flooding"`
	Streams   int      `json:"streams"`
	Disk      int64    `json:"disk_bytes"` // of streams on disk
	MaxDisk   int64    `json:"max_disk_bytes"`
	Memory    int64    `json:"memory_bytes"` // of streams in memory
	MaxMemory int64    `json:"max_memory_bytes"`
	Node      string   `json:"node"`    // in the cluster; empty means a single server
	Nodes     int      `json:"nodes"`   // of the cluster; 0 means a single server
	Peers     int      `json:"peers"`   // connected other nodes
	Expires   Time     `json:"expires"` // first expiry among its certificates; null means unknown
	// KeyMissing reports that ca.key is missing, so the engine cannot renew its certificate.
	KeyMissing bool `json:"key_missing"`
	// WriteError is why a stream takes no messages, such as a full disk; empty means that all do.
	WriteError string `json:"write_error"`
	LastError  string `json:"last_error"` // why it does not run, or the last error in its log
	ErrorAt    Time   `json:"error_at"`   // of an error in its log
}

// EdgeSilentAfter is how long an edge may be silent before it counts as lost. Edges report after
// each pass and at least once a minute.
const EdgeSilentAfter = 3 * time.Minute

// States of an edge in a FleetRow that its own report cannot have.
const EdgeSilent State = "silent" // it no longer reports

// FleetRow is an edge that follows a directory, as the hub sees it now.
type FleetRow struct {
	Directory string `json:"directory"`
	EdgeStatus
	Behind uint64  `json:"behind"` // messages up to the last change that the edge has not read; 0 means that it has all
	Age    float64 `json:"age"`    // seconds since the report
}

// Healthy reports whether nothing about the edge needs attention.
func (r FleetRow) Healthy() bool {
	return r.State == Fresh && r.DigestOK && r.LastError == "" && r.Held == 0
}

// FleetRows returns all edges by directory and name. An edge that is silent for too long has the
// state EdgeSilent.
func (s Status) FleetRows(now time.Time) []FleetRow {
	var rows []FleetRow
	for _, p := range s.Publish {
		for _, e := range p.Edges {
			row := FleetRow{Directory: p.Directory, EdgeStatus: e, Age: max(0, now.Sub(e.Reported.Time).Seconds())}
			if e.Generation == p.Generation && e.Sequence < p.Due {
				row.Behind = p.Due - e.Sequence
			}
			if now.Sub(e.Reported.Time) > EdgeSilentAfter {
				row.State = EdgeSilent
			}
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(x, y FleetRow) int {
		return cmp.Or(cmp.Compare(x.Directory, y.Directory), cmp.Compare(x.Name, y.Name))
	})
	return rows
}

// normal replaces missing lists with empty ones.
func (p PublishStatus) normal() PublishStatus {
	p.Edges = append([]EdgeStatus{}, p.Edges...)
	return p
}
