package metrics

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// TestFleetMetrics: every edge counts in one state, whatever it calls itself and its state.
func TestFleetMetrics(t *testing.T) {
	edge := func(name string, state control.State, sequence uint64, silent time.Duration) control.EdgeStatus {
		return control.EdgeStatus{Name: name, State: state, Generation: "g", Sequence: sequence, Lag: 0.5,
			Reported: control.Time{Time: time.Now().Add(-silent)}}
	}
	differs := false
	s := control.Status{
		Directories: []control.DirectoryStatus{
			{Name: "follows", USN: 7, Stream: &control.StreamStatus{DigestOK: &differs, Unreadable: 1, TooLarge: 1}},
			{Name: "new", Stream: &control.StreamStatus{Link: control.LinkStatus{Connected: true}}},
			{Name: "own"},
		},
		Publish: []control.PublishStatus{{Directory: "corp", Generation: "g", Sequence: 21, Due: 20, Pending: 3,
			Edges: []control.EdgeStatus{edge("mx1", control.Fresh, 20, 0), edge("mx2", control.Late, 15, 0),
				edge("gone", control.Fresh, 20, time.Hour), edge("\xff\"x\n\x1b[2J", control.Stale, 20, 0),
				edge("newer", "\x1bpartly ready", 20, 0)}}},
		Engine: &control.EngineStatus{Running: true, Disk: 5, MaxDisk: 10},
	}
	code, body := get(t, New("1.2.3").Handler(&fake{status: s}, noHosts, nil), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`stream_connected{directory="follows"} 0`, `stream_connected{directory="new"} 1`,
		`stream_connected{directory="corp"} 0`, `stream_digest_equal{directory="follows"} 0`,
		`stream_unreadable_objects{directory="follows"} 2`, `stream_sequence{directory="follows"} 7`,
		`publish_leading{directory="corp"} 0`, `publish_sequence{directory="corp"} 21`,
		`publish_pending_objects{directory="corp"} 3`,
		`edges{directory="corp",state="fresh"} 1`, `edges{directory="corp",state="late"} 1`,
		`edges{directory="corp",state="stale"} 1`, `edges{directory="corp",state="not_ready"} 1`,
		`edges{directory="corp",state="silent"} 1`,
		`edge_sequence_behind{directory="corp",edge="mx2"} 5`, `edge_lag_seconds{directory="corp",edge="mx1"} 0.5`,
		"edge_lag_seconds{directory=\"corp\",edge=\"\ufffd\\\"x\\n\x1b[2J\"} 0.5",
		"engine_up 0", "engine_disk_bytes 5", "engine_disk_limit_bytes 10",
	} {
		if strings.Count(body, "rcpt_milter_"+want+"\n") != 1 {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	for _, absent := range []string{`stream_digest_equal{directory="new"}`, `stream_connected{directory="own"}`,
		"publish_timestamp_seconds{", "certificate_expiry_timestamp_seconds ", `state="\x1b`} {
		if strings.Contains(body, absent) {
			t.Errorf("%s is in\n%s", absent, body)
		}
	}
}
