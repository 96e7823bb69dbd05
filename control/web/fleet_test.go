package web

import (
	"html"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
)

// current returns a status whose first directory has read all changes that it knows of.
func current(s control.Status) control.Status {
	s.Directories[0].USN = s.Directories[0].HighestCommittedUSN
	return s
}

// TestPageOfFleet: a hub shows what it publishes and its edges, an edge shows its hub.
func TestPageOfFleet(t *testing.T) {
	at := control.Time{Time: pageNow.Add(-4 * time.Second)}
	link := control.LinkStatus{Connected: true, Server: "tls://mx1.example:4222"}
	equal, differs := true, false
	edge := func(digest *bool, l control.LinkStatus) control.Status {
		return control.Status{Directories: []control.DirectoryStatus{{Name: "corp", State: control.Fresh, USN: 7,
			HighestCommittedUSN: 9, DomainController: "hub hub1", Stream: &control.StreamStatus{Link: l, Hub: "hub1",
				HubVersion: "1.2.4", Controller: "dc1.corp.example", AsOf: at, DigestOK: digest, Unreadable: 2}}}}
	}
	hub := control.Status{
		Publish: []control.PublishStatus{{Directory: "corp", Link: link, Leading: true, Sequence: 4711, Published: at,
			Edges: []control.EdgeStatus{{Name: "mx1", Version: "1.2.3", State: control.Fresh, DigestOK: true,
				Addresses: 1234, Sequence: 4711, Reported: at},
				{Name: "<b>mx2", State: control.Stale, Sequence: 4700, Held: 6, LastError: "no <route>", Reported: at},
				{Name: "mx3", State: control.Fresh, Reported: control.Time{Time: pageNow.Add(-time.Hour)}}}},
			{Directory: "lab", Holder: "hub2", LastError: "full", FailingSince: at, Link: control.LinkStatus{Since: at,
				LastError: "refused"}}, {Directory: "new"}},
		Engine: &control.EngineStatus{Listen: "inet:0.0.0.0:4222", LastError: "no quorum", Node: "a", Nodes: 3},
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		s    control.Status
		want []string
		no   []string
	}{
		{"hub", hub, []string{"Published directory corp", "held by this hub", "connected to tls://mx1.example:4222",
			"<td>mx1</td>", "<td>&lt;b&gt;mx2</td>", "no &lt;route&gt;", `<span class="state bad">silent</span>`,
			"held by hub hub2", "no hub is known to hold it", "refused", "no quorum", "Failing since",
			"connected to 0 others", host}, []string{"<b>mx2"}},
		{"hub without edges", control.Status{Publish: []control.PublishStatus{{Directory: "corp"}}},
			[]string{"None has reported yet.", "not connected yet"}, []string{"<h2>Engine"}},
		{"equal edge", edge(&equal, link), []string{"hub1, version 1.2.4; it follows dc1.corp.example",
			"4 seconds ago <span class=\"quiet\">the last good pass of the hub", "equals that of the hub",
			"2 objects keep their addresses", "7, 2 behind", host},
			[]string{"USN", "Published directory", "<h2>Edges"}},
		{"current edge", current(edge(&equal, link)), []string{"9, up to date"}, []string{"of the last good pass<"}},
		{"current edge that lost its hub", current(edge(&equal, control.LinkStatus{Since: at})),
			[]string{"9, as of the last good pass"}, []string{"up to date"}},
		{"unreachable controller", control.Status{Directories: []control.DirectoryStatus{{Name: "corp", USN: 7,
			HighestCommittedUSN: 7, DomainController: "dc1", LastError: "refused"}}},
			[]string{"7, as of the last good pass"}, []string{"up to date"}},
		{"stale controller", control.Status{Directories: []control.DirectoryStatus{{Name: "corp", USN: 7,
			HighestCommittedUSN: 7, DomainController: "dc1", State: control.Stale}}},
			[]string{"7, as of the last good pass"}, []string{"up to date"}},
		{"fresh controller", control.Status{Directories: []control.DirectoryStatus{{Name: "corp", USN: 7,
			HighestCommittedUSN: 7, DomainController: "dc1", State: control.Fresh}}}, []string{"7, up to date"}, nil},
		{"stale directory", control.Status{WhenStale: "accept", Directories: []control.DirectoryStatus{{Name: "corp",
			State: control.Stale}}}, []string{"unknown recipients", "when_stale: accept"}, nil},
		{"late directory", control.Status{Directories: []control.DirectoryStatus{{Name: "corp", State: control.Late}}},
			nil, []string{"unknown recipients"}},
		{"edge that differs, without an engine", edge(&differs, control.LinkStatus{LastError: "refused", Since: at}),
			[]string{"differs from that of the hub", "not connected since", "refused"}, nil},
		{"edge that was not compared", edge(nil, link), []string{"not compared with the hub yet"}, nil},
		{"edge without a state", control.Status{Directories: []control.DirectoryStatus{{Name: "corp",
			Stream: &control.StreamStatus{}}}}, []string{"no state read yet"}, []string{"As of", "Sequence"}},
		{"neither",
			control.Status{Directories: []control.DirectoryStatus{{Name: "corp", DomainController: "dc1", USN: 7}}},
			[]string{"<dt>Domain controller</dt><dd>dc1", "<dt>USN"}, []string{"<dt>Stream", "<dt>Hub", "<h2>Edges"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(testPage(&fake{status: c.s}), http.MethodGet, "/", "localhost")
			text := strings.ReplaceAll(w.Body.String(), gap, "")
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, text)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) && !strings.Contains(html.UnescapeString(text), want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, no := range c.no {
				if strings.Contains(text, no) {
					t.Errorf("%q in\n%s", no, text)
				}
			}
		})
	}
}
