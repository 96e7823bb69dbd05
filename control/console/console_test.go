package console

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

var update = flag.Bool("update", false, "write the files in testdata instead of comparing with them")

func compare(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s (-want +got):\n%s", file, cmp.Diff(string(want), got))
	}
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// before is so long before noon.
func before(d time.Duration) control.Time { return control.Time{Time: noon.Add(-d)} }

// writer writes at noon.
var writer = Writer{Now: func() time.Time { return noon }, Version: "VERSION"}

func ptr[T any](v T) *T { return &v }

func freshStatus() control.Status {
	return control.Status{
		Version: writer.Version, Started: before(75 * time.Hour), State: control.Fresh,
		Addresses: 1234567, Objects: 456789, Digest: strings.Repeat("0f", 32), Sessions: 12,
		StoreVerified: before(5 * time.Hour),
		Domains: map[string]int64{"example.com": 1230000, "sub.example.org": 4567,
			"corp.mail.onmicrosoft.com": 1},
		Modes: map[string]string{"example.com": "enforce", ".example.org": "report", "new.example": "pass"},
		Confirm: &control.ConfirmStatus{Found: 1, NotFound: 2, Remembered: 3, Directories: []control.ConfirmDirectory{
			{Name: "corp", DomainController: "dc2.corp.example"}, {Name: "lab", DomainController: "dc.lab.example",
				Followed: true}}},
		Export: &control.ExportStatus{File: "/var/lib/rcpt-milter/list", Format: "postmap", Entries: 1234,
			Current: before(0)},
		Socketmap:   &control.SocketmapStatus{OK: 12345, NotFound: 67, Temp: 8},
		Harvest:     &control.HarvestStatus{Mode: "report", WouldLimit: 1207, Networks: 4321, Octets: 300 << 10},
		Decisions:   map[string]int64{"known": 98765, "unknown": 432, "not-ours": 7, "stale": 0},
		WouldRefuse: map[string]int64{"unknown": 32},
		DomainDecisions: map[string]map[string]int64{
			".example.org": {"accepted": 765, "refused": 0, "temporary": 0, "report-only": 32},
			"example.com":  {"accepted": 98000, "refused": 400, "temporary": 0, "report-only": 0},
			"new.example":  {"accepted": 7, "refused": 0, "temporary": 0, "report-only": 0},
		},
		Directories: []control.DirectoryStatus{{
			Name: "corp", State: control.Fresh, DomainController: "dc1.corp.example",
			InvocationID: "6f1e3c70-5a3b-4c1d-9e8f-001122334455",
			USN:          7654321, HighestCommittedUSN: 7654330, LastSuccess: before(3 * time.Second),
			LastIncremental: &control.PassStatus{Number: 1234, Started: before(3 * time.Second), Seconds: 0.0213,
				Seen: 3, Added: 1, Changed: 1, Result: control.ResultOK},
			LastFull: &control.PassStatus{Number: 1, Started: before(7 * time.Hour), Seconds: 12.34567, Seen: 456999,
				Added: 1234567, Changed: 456789, Result: control.ResultOK},
			FullPassReason: "it was never read before", NextPass: before(-2 * time.Second),
			DeletedObjectsVisible: ptr(true), Notify: true,
			Expiry: &control.ExpiryStatus{Certificate: before(-300 * 24 * time.Hour), Account: before(-25 * time.Hour)},
		}},
	}
}

func troubledStatus() control.Status {
	s := freshStatus()
	s.Version, s.State, s.Unparsed, s.ReloadError = "0.9", control.NotReady, 2,
		"/etc/rcpt-milter/config.yaml:3:1: unknown key \"x\""
	s.Alarms = []string{"nobody@example.com is known", "none@example.com is known"}
	s.Listeners = []control.ListenerStatus{
		{Name: control.ListenerMilter, Address: "unix:/run/\x1bm.sock", Trouble: "a file is in the way",
			Since: before(time.Minute), Restored: 2, Connections: 12, Limit: 2000, AtLimit: 5, AcceptErrors: 7},
		{Name: control.ListenerMilter, Address: "inet:127.0.0.1:8891", Connections: 12, Limit: 2000, AtLimit: 5,
			AcceptErrors: 7},
		{Name: control.ListenerMetrics, Address: "inet:127.0.0.1:9417", Trouble: "address already in use",
			Since: before(time.Hour), Limit: 64},
	}
	s.Descriptors = control.DescriptorStatus{Open: 1000, Limit: 1024}
	s.AcceptFiles = []control.AcceptFile{
		{File: "/etc/rcpt-milter/ol\x1bd", Entries: 2, Read: before(time.Minute), State: control.Stale,
			Modified: before(50 * time.Hour)},
		{File: "/etc/rcpt-milter/future", Entries: 2, Read: before(time.Minute), State: control.Stale,
			Modified: before(-time.Hour)},
		{File: "/etc/postfix/relay_recipients", Entries: 1234, Domains: 1, Read: before(3 * time.Hour),
			Trouble: "open /etc/postfix/relay_recipients: no such file or directory", Since: before(time.Hour)},
		{File: "/etc/postfix/\x1bvirtual", Entries: 1, Read: before(time.Minute), Unread: 25,
			UnreadLines: []string{"line 1: a", "line 2: b\x1b", "line 3: c", "line 4: d"},
			Suspicious:  4, SuspiciousLines: []string{"line 5: a\x1b", "line 6: b", "line 7: c", "line 8: d"}},
	}
	s.Confirm = &control.ConfirmStatus{Found: 3, NotFound: 1200, Remembered: 40, OverBudget: 7, Unanswered: 2,
		Directories: []control.ConfirmDirectory{{Name: "corp", LastError: "dc2.corp.example:636: no answer"},
			{Name: "lab"}}}
	s.Export.Held, s.Export.Since = "the store is damaged", before(time.Hour)
	s.Export.Union, s.Export.Kept = "directory lab is stale", 2
	s.Export.Trouble = "export.command: postmap: exit status 1"
	s.Socketmap.Perm = 3
	s.Harvest = &control.HarvestStatus{Mode: "enforce", Networks: 4321, Octets: 2 << 20}
	s.HarvestClients = 8
	for i := range 8 {
		s.Harvest.Limited = append(s.Harvest.Limited, control.HarvestNetwork{Network: fmt.Sprintf("192.0.%d.0/24", i),
			Unknown: 21, Until: before(-time.Duration(60-i) * time.Minute)})
	}
	d := &s.Directories[0]
	d.State, d.LastError, d.FailingSince = control.Stale,
		"dc1.corp.example:636: bind as \"svc\" is refused: the password has expired", before(5*time.Hour)
	d.HeldRemovals, d.HoldReason, d.DeletedObjectsVisible = 600, "600 removals in 24h exceed max (500)", ptr(false)
	d.Notify, d.DeletedObjectsGrant = false, directory.GrantDeletedObjects("DC=corp,DC=example",
		"svc-mail@corp.example")
	d.Expiry.Password, d.Expiry.Account = before(5*time.Hour), control.Time{}
	d.Warnings = []string{"ldaps://corp.example:636 leads to dc1.corp.example or to dc2.corp.example, and each " +
		"change costs a full pass"}
	d.LastIncremental.Result = control.ResultHeld
	d.NextPass = before(time.Second)
	s.Directories = append(s.Directories, control.DirectoryStatus{Name: "lab", State: control.NotReady,
		Running: &control.SyncEvent{Directory: "lab", Kind: "full", Started: before(90 * time.Second), Seen: 12000,
			Expected: 50000}},
		control.DirectoryStatus{Name: "old", State: control.Retired, HeldRemovals: 1,
			HoldReason: "1 removal would empty old.example"})
	return s
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		file string
		s    control.Status
	}{
		{"status-fresh.txt", freshStatus()},
		{"status-troubled.txt", troubledStatus()},
		{"status-domains.txt", domainsStatus()},
		{"status-empty.txt", control.Status{Version: writer.Version, State: control.NotReady}},
	} {
		t.Run(c.file, func(t *testing.T) {
			var p terminal.Page
			writer.Status(&p, c.s)
			compare(t, c.file, p.String())
		})
	}
}

// TestStateTitle: the first line of a status has the reason of the state, and what unknown recipients get.
func TestStateTitle(t *testing.T) {
	directories := func(states ...control.State) (all []control.DirectoryStatus) {
		for _, state := range states {
			all = append(all, control.DirectoryStatus{Name: "corp", State: state})
		}
		return all
	}
	staleFile := []control.AcceptFile{{State: control.Stale}}
	for _, c := range []struct {
		name     string
		s        control.Status
		want, no string
	}{
		{"fresh", control.Status{State: control.Fresh}, "State: fresh\n", "unknown"},
		{"late", control.Status{State: control.Late, Directories: directories(control.Late)}, "older", "unknown"},
		{"stale directory",
			control.Status{State: control.Stale, Directories: directories(control.Fresh, control.Stale)},
			"stale_after; in its enforced domains, unknown recipients get 451", "file"},
		{"stale file, no directory", control.Status{State: control.Stale, AcceptFiles: staleFile},
			"an accept file is stale; in its enforced domains, unknown recipients get 451", "stale_after"},
		{"stale file, fresh directory", control.Status{State: control.Stale, AcceptFiles: staleFile,
			Directories: directories(control.Fresh)}, "an accept file is stale", "stale_after"},
		{"stale file and directory", control.Status{State: control.Stale, AcceptFiles: staleFile,
			Directories: directories(control.Stale)}, "stale_after", "accept file is"},
		{"stopped", control.Status{State: control.Stale, Offline: true, Directories: directories(control.Stale)},
			"stale_after", "unknown"},
		{"not read since the rules changed", control.Status{State: control.NotReady,
			Directories: directories(control.NotReady)}, "must be read in full", "never"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p terminal.Page
			writer.Status(&p, c.s)
			title, _, _ := strings.Cut(p.String(), "\n")
			if title += "\n"; !strings.Contains(title, c.want) || strings.Contains(title, c.no) {
				t.Errorf("%q, want %q and no %q", title, c.want, c.no)
			}
		})
	}
}

// TestUpToDate: the index is up to date only while a running daemon reads the directory.
func TestUpToDate(t *testing.T) {
	for _, c := range []struct {
		name    string
		state   control.State
		offline bool
		want    string
	}{
		{"fresh", control.Fresh, false, "up to date"},
		{"stale, before the first pass of the daemon", control.Stale, false, "as of the last good pass"},
		{"late", control.Late, false, "as of the last good pass"},
		{"no daemon", control.Fresh, true, "as of the last good pass"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p terminal.Page
			writer.Status(&p, control.Status{State: c.state, Offline: c.offline, Directories: []control.DirectoryStatus{
				{Name: "corp", State: c.state, DomainController: "dc1", USN: 7, HighestCommittedUSN: 7}}})
			if got := p.String(); !strings.Contains(got, "7 of 7, "+c.want) {
				t.Errorf("no %q in\n%s", c.want, got)
			}
		})
	}
}

// TestStatusJSON writes the files that tests of cmd/rcpt-milter and testenv/ui read.
func TestStatusJSON(t *testing.T) {
	for file, status := range map[string]control.Status{"status-fresh.json": freshStatus(),
		"status-troubled.json": troubledStatus()} {
		t.Run(file, func(t *testing.T) {
			var out bytes.Buffer
			if err := text.WriteJSON(&out, status); err != nil {
				t.Fatal(err)
			}
			compare(t, file, out.String())
		})
	}
}

func TestLookup(t *testing.T) {
	known := control.LookupAnswer{
		Address: "Jane.Doe@Example.com", Canonical: "jane.doe@example.com", Domain: "example.com", Mode: "enforce",
		Outcome: control.Accepted, Reply: "continue", Verdict: "known", Rule: 6, Reason: "in the index",
		Owners: []control.Owner{
			{Directory: "corp", GUID: "6f1e3c70-5a3b-4c1d-9e8f-001122334455",
				DN: "CN=Jane Doe,OU=Staff,DC=corp,DC=example", Class: "user",
				Attribute: "proxyAddresses", Learned: before(26 * time.Hour), Pass: 17,
				DomainController: "dc1.corp.example",
				USN:              4711, InternalOnly: true},
			{Directory: "lab", GUID: "00112233-4455-6677-8899-aabbccddeeff", DN: "CN=Jane,DC=lab", Class: "contact",
				Attribute: "mail",
				Learned:   before(72 * time.Hour), Pass: 2, DomainController: "dc.lab", USN: 5, Gone: true},
		},
	}
	unknown := control.LookupAnswer{
		Address: "nobody@example.com", Canonical: "nobody@example.com", Domain: "example.com", Mode: "enforce",
		Outcome: control.Refused, Reply: "550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown",
		Verdict: "unknown", Rule: 12,
		Reason: "not in the index", Directory: "corp", DirectoryState: control.Fresh,
		Removed: before(80 * time.Hour), RemovedPass: 99, Harvest: &control.HarvestNetwork{Network: "192.0.2.0/24",
			Unknown: 4, Recipients: 9},
	}
	report := unknown
	report.Mode, report.Outcome, report.WouldRefuse, report.WouldReply, report.Reply = "report", control.Accepted,
		true, unknown.Reply, "continue"
	report.Harvest = &control.HarvestNetwork{Network: "192.0.2.0/24", Unknown: 20, Until: before(-50 * time.Minute)}
	past := known
	past.At, past.Assumed = before(30*time.Hour), []string{"assumed: today's configuration"}
	past.Owners = []control.Owner{{Directory: "corp", GUID: "6f1e3c70-5a3b-4c1d-9e8f-001122334455", DN: "CN=Jane",
		Learned: before(72 * time.Hour)}}
	for i := range historyShown + 2 {
		past.History = append(past.History, control.JournalRow{Change: string("+-"[i%2]), Directory: "corp",
			DN: "CN=Jane", Pass: uint64(i), Time: before(time.Duration(48-i) * time.Hour)})
	}
	unreadable := control.LookupAnswer{
		Address: "a\x1b[2Jb\u202ec\xff\r\n@example.com", Domain: "example.com", Mode: "enforce",
		Outcome: control.Deferred,
		Reply:   "451 4.3.0 <?>", Verdict: "error", Reason: "an internal error", Error: "store: \x1b]0;title\a",
	}
	for file, answer := range map[string]control.LookupAnswer{"lookup-known.txt": known, "lookup-unknown.txt": unknown,
		"lookup-past.txt": past, "lookup-report.txt": report, "lookup-hostile.txt": unreadable} {
		t.Run(file, func(t *testing.T) {
			var p terminal.Page
			writer.Lookup(&p, answer)
			compare(t, file, p.String())
		})
	}
}

func TestColours(t *testing.T) {
	p := &terminal.Page{Colours: true}
	for _, c := range []struct {
		state control.State
		want  string
	}{
		{control.Fresh, "\x1b[32mfresh\x1b[0m"},
		{control.Late, "\x1b[33mlate\x1b[0m"},
		{control.NotReady, "\x1b[31mnot ready\x1b[0m"},
	} {
		if got := StateWords(p, c.state); got != c.want {
			t.Errorf("StateWords(%q) = %q, want %q", c.state, got, c.want)
		}
	}
}

// hostile fills every text of a value with what a terminal would obey.
func hostile(v reflect.Value) {
	const text = "x\x1b[31m\u009b2J\u202e\u2028\U000e0001\r\ny"
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint64:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hostile(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		hostile(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		hostile(value)
		v.SetMapIndex(reflect.ValueOf(text), value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[control.Time]() {
			v.Set(reflect.ValueOf(before(time.Hour)))
			return
		}
		for i := range v.NumField() {
			hostile(v.Field(i))
		}
	}
}

// TestNothingControlsTheTerminal fills every field with control characters.
func TestNothingControlsTheTerminal(t *testing.T) {
	for name, write := range map[string]func(p *terminal.Page){
		"status": func(p *terminal.Page) {
			var s control.Status
			hostile(reflect.ValueOf(&s).Elem())
			writer.Status(p, s)
		},
		"fleet": func(p *terminal.Page) {
			writer.Fleet(p, hostileFleet(func(*control.Status) {}))
		},
		"fleet in trouble": func(p *terminal.Page) {
			writer.Fleet(p, hostileFleet(func(s *control.Status) {
				s.Publish[0].Leading, s.Publish[0].Link.Connected, s.Engine.Running = false, false, false
				s.Publish[0].Edges[0].DigestOK = false
			}))
		},
		"edge": func(p *terminal.Page) {
			writer.Status(p, hostileFleet(func(s *control.Status) {
				s.Directories[0].Stream.Link.Connected, s.Offline = false, false
			}))
		},
		"lookup": func(p *terminal.Page) {
			var l control.LookupAnswer
			hostile(reflect.ValueOf(&l).Elem())
			writer.Lookup(p, l)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p terminal.Page
			write(&p)
			if bad := strings.IndexAny(p.String(), "\x1b\u009b\u202e\u2028\U000e0001\r"); bad >= 0 {
				t.Errorf("%q reaches the terminal", p.String()[bad:min(bad+20, p.Len())])
			}
			if !strings.Contains(p.String(), `31m`) {
				t.Error("the text is missing")
			}
		})
	}
}
