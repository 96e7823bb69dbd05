package nagios

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func freshStatus() control.Status {
	return control.Status{State: control.Fresh, Addresses: 1234567, Objects: 456789, Sessions: 12,
		Domains:     map[string]int64{"a.example": 1234560, "b.example": 6, "c.example": 1},
		Decisions:   map[string]int64{"known": 98765, "unknown": 432, "not-ours": 7, "stale": 0},
		WouldRefuse: map[string]int64{"unknown": 32},
		Directories: []control.DirectoryStatus{{Name: "corp", State: control.Fresh, USN: 7654321,
			HighestCommittedUSN: 7654330, LastSuccess: control.Time{Time: noon.Add(-3 * time.Second)}}}}
}

// status returns a fresh status after a change.
func status(change func(*control.Status)) control.Status {
	s := freshStatus()
	change(&s)
	return s
}

func TestProblems(t *testing.T) {
	const size = "1,234,567 addresses in 3 domains"
	for _, c := range []struct {
		name string
		s    control.Status
		want string
	}{
		{"none", freshStatus(), "fresh"},
		{"alarms", status(func(s *control.Status) { s.Alarms = []string{"first", "second"} }), "first; second"},
		{"empty domain", status(func(s *control.Status) { s.EmptyDomains = []string{"a.example"} }),
			control.EmptyDomainText("a.example", "")},
		{"late", status(func(s *control.Status) { s.Directories[0].State = control.Late }), "directory corp is late"},
		{"not ready", status(func(s *control.Status) { s.Directories[0].State = control.NotReady }),
			"directory corp is not ready"},
		{"retired", status(func(s *control.Status) { s.Directories[0].State = control.Retired }), "fresh"},
		{"failing", status(func(s *control.Status) { s.Directories[0].LastError = "no answer" }),
			"directory corp fails: no answer"},
		{"one removal", status(func(s *control.Status) { s.Directories[0].HeldRemovals = 1 }),
			"directory corp: 1 removal held back"},
		{"accept file", status(func(s *control.Status) {
			s.AcceptFiles = []control.AcceptFile{{File: "/good"}, {File: "/bad", Trouble: "is empty"}}
		}), "accept file /bad: its last good copy stays in effect: is empty"},
		{"stale accept file", status(func(s *control.Status) {
			s.AcceptFiles = []control.AcceptFile{{File: "/good", State: control.Fresh},
				{File: "/old", State: control.Stale, Modified: control.Time{Time: noon.Add(-time.Hour)}}}
		}), "accept file /old: older than accept_files_max_age: unknown recipients of its domains get 451 " +
			"unless when_stale says otherwise; bring a new version, or touch the file if it is still right"},
		{"accept file of the future", status(func(s *control.Status) {
			s.AcceptFiles = []control.AcceptFile{{File: "/new", State: control.Stale,
				Modified: control.Time{Time: noon.Add(time.Hour)}}}
		}), "accept file /new: modified in the future, so its age is not known: unknown recipients of its domains " +
			"get 451 unless when_stale says otherwise; correct the clock, or touch the file"},
		{"reload", status(func(s *control.Status) { s.ReloadError = "line 3" }),
			"the configuration was rejected: line 3"},
		{"bars and lines", status(func(s *control.Status) { s.Alarms = []string{"a|b\nc"} }), `a/b\nc`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, want := oneLine(problemsOf(c.s, noon)), c.want+"; "+size; got != want {
				t.Errorf("problems: %s\nwant %s", got, want)
			}
		})
	}
}

func TestPerformanceData(t *testing.T) {
	const counters = "'accepted'=98772c 'let_through'=32c 'put_off'=0c 'refused'=400c 'would_refuse'=32c"
	limits := &Limits{LateAfter: 5 * time.Minute, StaleAfter: 30 * time.Minute, Connections: 2000}
	for _, c := range []struct {
		name   string
		s      control.Status
		limits *Limits
		want   string
	}{
		{"with limits", freshStatus(), limits, "'age_corp'=3s;300;1800;0 'usn_lag_corp'=9;;;0 'held_corp'=0;0;;0 " +
			"'addresses'=1234567;;;0 'objects'=456789;;;0 'sessions'=12;;;0;2000 " + counters},
		{"without limits", freshStatus(), nil, "'age_corp'=3s;;;0 'usn_lag_corp'=9;;;0 'held_corp'=0;0;;0 " +
			"'addresses'=1234567;;;0 'objects'=456789;;;0 'sessions'=12;;;0 " + counters},
		{"never read", status(func(s *control.Status) { s.Directories[0].LastSuccess = control.Time{} }), nil,
			"'usn_lag_corp'=9;;;0 'held_corp'=0;0;;0 'addresses'=1234567;;;0 'objects'=456789;;;0 'sessions'=12;;;0 " +
				counters},
		{"label", status(func(s *control.Status) { s.Directories[0].Name = "a'=|b" }), nil,
			"'age_ab'=3s;;;0 'usn_lag_ab'=9;;;0 'held_ab'=0;0;;0 'addresses'=1234567;;;0 'objects'=456789;;;0 " +
				"'sessions'=12;;;0 " + counters},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := performanceData(c.s, c.limits, noon); got != c.want {
				t.Errorf("performance data: %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestLine(t *testing.T) {
	for state, word := range map[State]string{OK: "OK", Warning: "WARNING", Critical: "CRITICAL", Unknown: "UNKNOWN",
		64: "UNKNOWN"} {
		t.Run(word, func(t *testing.T) {
			got := Line(state, freshStatus(), nil, noon)
			if !strings.HasPrefix(got, "RCPT-MILTER "+word+" - fresh; ") || strings.Count(got, " | ") != 1 ||
				strings.Index(got, "\n") != len(got)-1 {
				t.Errorf("Line(%d) = %q", state, got)
			}
		})
	}
	if got, want := ErrorLine(errors.New("a|b\nc")), "RCPT-MILTER UNKNOWN - a/b; c\n"; got != want {
		t.Errorf("ErrorLine = %q, want %q", got, want)
	}
}
