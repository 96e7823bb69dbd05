package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/store"
)

func TestPrintReport(t *testing.T) {
	name := func(name string, refused, would int64, ago time.Duration) control.RefusedName {
		return control.RefusedName{Name: name, Refused: refused, WouldRefuse: would, First: before(ago),
			Last: before(ago)}
	}
	near := control.RefusedAddress{RefusedName: name("jane.deo@x.test", 12, 0, time.Hour), Network: "192.0.2.0/24",
		Verdict: "unknown", Now: control.NowUnknown}
	full := control.Report{
		From: before(24 * time.Hour), To: before(0), Refused: 12345, WouldRefuse: 67, Unlisted: 1000,
		Verdicts:   map[string]int64{"unknown": 12000, "harvest-limited": 412},
		Incomplete: "store: not enough\x1b[2J space",
		Addresses: []control.RefusedAddress{near,
			{RefusedName: name("new@x.test", 0, 67, 25*time.Hour), Network: "", Now: control.NowKnown},
			{RefusedName: name("x\u202ey@x.test", 1, 0, time.Minute), Network: "2001:db8::/64",
				Now: control.NowRemoved}},
		Domains:    []control.RefusedName{name("x.test", 12345, 67, time.Minute)},
		Networks:   []control.RefusedName{name("192.0.2.0/24", 12000, 0, time.Hour)},
		NearMisses: []control.NearMiss{{RefusedAddress: near, Known: []string{"jane.doe@x.test", "jane.dei@x.test"}}},
	}
	for _, c := range []struct {
		file string
		r    control.Report
	}{{"report.txt", full}, {"report-empty.txt", control.Report{From: before(24 * time.Hour)}}} {
		a, out := pageApp()
		if err := a.printReport(c.r, 3); err != nil {
			t.Fatal(err)
		}
		compare(t, c.file, out.String())
	}
}

// TestReport is the command beside a daemon.
func TestReport(t *testing.T) {
	r := newRig(t)
	s, err := store.Open(t.Context(), store.Config{Dir: r.dir + "/store"})
	if err != nil {
		t.Fatal(err)
	}
	hour := store.NewRefusals(time.Now())
	for _, text := range []string{"jane.deo@corp.example", "jane.doe@corp.example", "quite.other@corp.example",
		"jne@corp.example"} {
		hour.Add(store.Refusal{Time: time.Now(), Address: text, Domain: "corp.example", Network: "192.0.2.0/24",
			Verdict: "unknown"})
	}
	if err := s.PutRefusals(hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "jane.do@corp.example", "550")
	session.want(t, "nobody@report.example", "continue")
	out := r.want(exitOK, "report")
	for _, want := range []string{"jane.do@corp.example", "jane.doe@corp.example", "192.0.2.0/24"} {
		if !strings.Contains(out, want) {
			t.Errorf("report has no %q:\n%s", want, out)
		}
	}
	var report control.Report
	if err := json.Unmarshal([]byte(r.want(exitOK, "report", "--json", "--since", "2h")), &report); err != nil {
		t.Fatal(err)
	}
	if report.Searched != 6 || report.Refused != 5 || report.WouldRefuse != 1 {
		t.Errorf("report --json: %+v", report)
	}
	near := map[string][]string{}
	for _, n := range report.NearMisses {
		near[n.Name] = n.Known
	}
	want := map[string][]string{"jane.do@corp.example": {"jane.doe@corp.example"},
		"jane.deo@corp.example": {"jane.doe@corp.example"}, "jne@corp.example": {"jane@corp.example"}}
	if d := cmp.Diff(want, near); d != "" {
		t.Errorf("near misses (-want +got):\n%s", d)
	}
	for _, a := range report.Addresses {
		if known := a.Name == "jane.doe@corp.example"; known != (a.Now == control.NowKnown) {
			t.Errorf("%s is %s now", a.Name, a.Now)
		}
	}
	r.want(exitUsage, "report", "--since", "soon")
	r.want(exitUsage, "report", "--limit", "-1")
}
