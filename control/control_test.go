package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files in testdata instead of comparing with them")

// fake returns prepared answers.
type fake struct {
	status Status
	answer LookupAnswer
	err    error
	sync   func(context.Context, SyncQuery, func(SyncEvent)) error
	asked  chan LookupQuery

	journal  func(q JournalQuery, visit func(JournalRow) error) error
	export   func(ctx context.Context, q ExportQuery, tell func(ExportEvent) error) error
	compare  func(ctx context.Context, q CompareQuery, tell func(CompareEvent) error) error
	report   func(q ReportQuery) (Report, error)
	removals []HeldRemoval
	settled  func(what string, q RemovalsQuery, tell func(RemovalsDone)) error
}

func (f *fake) Status(context.Context) (Status, error) { return f.status, f.err }

func (f *fake) Lookup(_ context.Context, q LookupQuery) (LookupAnswer, error) {
	if f.asked != nil {
		f.asked <- q
	}
	return f.answer, f.err
}

func (f *fake) Sync(ctx context.Context, q SyncQuery, progress func(SyncEvent)) error {
	return f.sync(ctx, q, progress)
}

func (f *fake) Removals(_ context.Context, q RemovalsQuery, visit func(HeldRemoval) error) error {
	for _, h := range f.removals {
		if q.Directory != "" && q.Directory != h.Directory {
			continue
		}
		if err := visit(h); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fake) Report(_ context.Context, q ReportQuery) (Report, error) { return f.report(q) }

func (f *fake) Approve(_ context.Context, q RemovalsQuery, tell func(RemovalsDone)) error {
	return f.settled("approve", q, tell)
}

func (f *fake) Discard(_ context.Context, q RemovalsQuery, tell func(RemovalsDone)) error {
	return f.settled("discard", q, tell)
}

func (f *fake) Journal(_ context.Context, q JournalQuery, visit func(JournalRow) error) error {
	return f.journal(q, visit)
}

func (f *fake) Compare(ctx context.Context, q CompareQuery, tell func(CompareEvent) error) error {
	return f.compare(ctx, q, tell)
}

func (f *fake) Export(ctx context.Context, q ExportQuery, tell func(ExportEvent) error) error {
	return f.export(ctx, q, tell)
}

func (f *fake) Reload(context.Context) (Reloaded, error) {
	return Reloaded{Changed: []string{"domains"}, Restart: []string{"listen"}}, f.err
}

func (f *fake) Verify(context.Context) (Verified, error) {
	return Verified{Addresses: 3, Objects: 2, Digest: "00ff"}, f.err
}

// start serves the backend on a unix socket, and gives a client for it and what
// stops it.
func start(t *testing.T, b Backend) (*Client, func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewServer(b, "1.2.3", nil).Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return NewClient(path), stop
}

// TestHungDaemon: its state is not waited for longer than a monitoring system waits.
func TestHungDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // no connection is accepted, so there is no answer
	client := NewClient(path)
	if client.status >= 10*time.Second {
		t.Errorf("the state is waited for %v", client.status)
	}
	client.status = 50 * time.Millisecond
	if _, err := client.Status(t.Context()); !errors.Is(err, ErrNotReachable) ||
		!strings.Contains(err.Error(), "timeout") {
		t.Errorf("Status of a daemon that hangs: %v", err)
	}
}

var zone = time.FixedZone("", 2*60*60)

// fullStatus has something in every field.
func fullStatus() Status {
	at := Time{time.Date(2026, 3, 4, 14, 0, 0, 0, zone)}
	visible := true
	return Status{
		Version: "1.2.3", Started: at, State: Late, Addresses: 3, Objects: 2, Unparsed: 1, Digest: "00ff",
		UnparsedValues: []UnparsedValue{{Directory: "corp", DN: "CN=Ann,DC=corp,DC=example", Attribute: "mail",
			Value: "mailto:a@x.test", Reason: "mailto: begins a URL"}},
		Domains: map[string]int64{"example.com": 3}, Modes: map[string]string{"example.com": "enforce"},
		Decisions: map[string]int64{"known": 7}, WouldRefuse: map[string]int64{"unknown": 1}, Sessions: 4,
		Outcomes:        map[string]int64{"accepted": 6, "report-only": 1},
		DomainDecisions: map[string]map[string]int64{"example.com": {"accepted": 6, "report-only": 1}},
		Listeners: []ListenerStatus{{Name: ListenerMilter, Address: "unix:/run/m.sock", Trouble: "it is gone",
			Since: at, Restored: 1, Connections: 4, Limit: 2000, AtLimit: 2, AcceptErrors: 3}},
		Descriptors:    DescriptorStatus{Open: 40, Limit: 65536},
		HarvestClients: 5, LogDropped: 12, ReloadError: "bad file", RestartNeeded: []string{"listen"},
		StoreVerified: Time{at.Add(time.Minute)}, StoreState: StoreReadOnly, StoreError: "no space",
		StoreSetAside: "/store/damaged-x",
		JournalFrom:   Time{at.Add(-time.Minute)},
		Alarms:        []string{"nobody is known"}, EmptyDomains: []string{"exmaple.com"},
		AcceptFiles: []AcceptFile{{File: "/etc/postfix/relay_recipients", Entries: 3, Domains: 1, Read: at,
			Modified: at, State: Stale, Trouble: "it is gone", Since: at,
			Unread: 2, UnreadLines: []string{"line 4: not an address"}, Aliases: 1, Suspicious: 1,
			SuspiciousLines: []string{"line 6: taken literally"}, Unmatched: 4,
			UnmatchedLines: []string{"line 5: 4 entries"}}},
		Confirm: &ConfirmStatus{Found: 1, NotFound: 2, Remembered: 3, OverBudget: 4, Unanswered: 5,
			Directories: []ConfirmDirectory{{Name: "corp", DomainController: "dc2.corp.example", Followed: true,
				LastError: "down"}}},
		Export: &ExportStatus{File: "/var/lib/rcpt-milter/list", Format: "postmap", Entries: 6, Written: at,
			Current: at,
			Held:    "the store is damaged", Union: "directory corp is stale", Kept: 2,
			Trouble: "no space left on device", Since: at},
		Socketmap: &SocketmapStatus{OK: 8, NotFound: 9, Temp: 1, Perm: 2},
		Harvest: &HarvestStatus{Mode: "report", WouldLimit: 7, Networks: 20, Octets: 4000,
			Limited: []HarvestNetwork{{Network: "192.0.2.0/24", Bounces: true, Unknown: 21, Until: at}}},
		Directories: []DirectoryStatus{{
			Name: "corp", State: Late, DomainController: "dc1.corp.example", InvocationID: "0f0e", USN: 10,
			HighestCommittedUSN: 12,
			LastSuccess:         at,
			LastIncremental: &PassStatus{Number: 9, Started: at, Seconds: 0.25, Seen: 1, Added: 2, Changed: 3,
				Removed: 4, Result: ResultOK},
			LastFull:       &PassStatus{Number: 1, Started: Time{at.Add(-time.Hour)}, Seconds: 2, Result: ResultHeld},
			FullPassReason: "first", NextPass: Time{at.Add(5 * time.Second)}, LastError: "down", FailingSince: at,
			Warnings:     []string{"a name leads to two controllers"},
			Running:      &SyncEvent{Directory: "corp", Kind: "full", Started: at, Seen: 5, Expected: 9},
			HeldRemovals: 6, HoldReason: "too many", DeletedObjectsVisible: &visible,
			DeletedObjectsGrant: []string{"dsacls"}, Notify: true,
			Expiry: &ExpiryStatus{Checked: at, Certificate: Time{at.Add(48 * time.Hour)},
				Password: Time{at.Add(72 * time.Hour)}, Account: Time{at.Add(96 * time.Hour)}, LastError: "down"},
			Stream: &StreamStatus{Link: fullLink(at), Hub: "hub1", HubVersion: "1.2.4", Controller: "dc1.corp.example",
				AsOf: at, Generation: "0f0e", Sequence: 10, DigestOK: &visible, Unreadable: 3,
				TooLarge: 2, SharedName: "mx1", NotNewer: true},
		}},
		Publish: []PublishStatus{{Directory: "lab", Link: fullLink(at), Leading: true, Holder: "hub1",
			Generation: "0f0f",
			Sequence:   20, Published: at, Due: 19, Pending: 4, Withheld: 5, TooLarge: 1, LastError: "full",
			FailingSince: at,
			Edges: []EdgeStatus{{Name: "mx1", Version: "1.2.2", State: Late, Generation: "0f0f", Sequence: 18,
				DigestOK: true, Addresses: 3, Held: 6, Lag: 0.25, LastError: "slow", Reported: at}}}},
		Engine: &EngineStatus{Listen: "inet:0.0.0.0:4222", URLs: []string{"tls://mx1.example:4222"}, Running: true,
			Ready: true, Clients: 2, Members: 3, Flooding: []string{"mx2"}, Streams: 4, Disk: 5000, MaxDisk: 9000,
			Memory: 6000, MaxMemory: 8000,
			Node: "a", Nodes: 3, Peers: 2, Expires: at, LastError: "slow", ErrorAt: at},
	}
}

// fullLink has something in every field.
func fullLink(at Time) LinkStatus {
	return LinkStatus{Connected: true, Server: "tls://mx1.example:4222", Since: at, LastError: "down",
		CertificateExpires: Time{at.Add(24 * time.Hour)}}
}

func fullAnswer() LookupAnswer {
	at := Time{time.Date(2026, 3, 4, 14, 0, 0, 0, zone)}
	return LookupAnswer{
		Address: "A@example.com", Canonical: "a@example.com", Domain: "example.com", Mode: "report", Outcome: Accepted,
		Reply: "continue", Verdict: "stale", WouldRefuse: true, WouldReply: "451 4.3.0 later", Rule: 9,
		Reason: "too old", Harvest: &HarvestNetwork{Network: "192.0.2.0/24", Unknown: 3, Recipients: 9},
		JudgedAs: "a@example.org", AliasedBy: "domain_aliases",
		Error: "none", LoggedAs: "0123456789ab@example.com", Directory: "corp", DirectoryState: Stale, Removed: at,
		RemovedPass: 8,
		At:          at, Assumed: []string{"fresh"}, History: journalRows(1),
		Owners: []Owner{{Directory: "corp", GUID: "01", DN: "CN=A", Class: "user", Attribute: "mail",
			InternalOnly: true, Gone: true,
			Learned: at, Pass: 3, DomainController: "dc1", USN: 5}},
	}
}

// TestJSON: the names are a contract.
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		file  string
		value any
	}{
		{"status.json", fullStatus().normal()},
		{"status-empty.json", Status{AcceptFiles: []AcceptFile{{}}, Confirm: &ConfirmStatus{},
			Harvest: &HarvestStatus{}, Directories: []DirectoryStatus{{}}}.normal()},
		{"lookup.json", fullAnswer().normal()},
		{"lookup-empty.json", LookupAnswer{}.normal()},
		{"sync.json", []line[SyncEvent]{{Event: &SyncEvent{Directory: "corp", Kind: "full", Seen: 1,
			Pass: &PassStatus{Number: 2}}}, {End: &lineEnd{}}}},
		{"compare.json", compareEvents()},
		{"journal.json", journalRows(1)},
		{"export.json", exportEvents()},
		{"removals.json", heldRemovals(1)},
		{"reloaded.json", []Reloaded{{Changed: []string{"domains"}, Restart: []string{"listen"},
			AcceptFiles: []string{"/etc/list has 2 entries now (before: 152)"}},
			Reloaded{Refused: "bad"}.normal()}},
		{"settled.json", []RemovalsDone{{Directory: "corp", Removed: 5, Waiting: 6, Pass: 9},
			{Directory: "lab", Kept: 3}}},
	} {
		got, err := json.MarshalIndent(c.value, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		compare(t, c.file, append(got, '\n'))
	}
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s (-want +got):\n%s", file, cmp.Diff(string(want), string(got)))
	}
}

func TestStatus(t *testing.T) {
	client, _ := start(t, &fake{status: fullStatus()})
	got, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fullStatus().normal(), got); d != "" {
		t.Errorf("Status (-want +got):\n%s", d)
	}
}

func TestVersion(t *testing.T) {
	client, _ := start(t, &fake{})
	got, err := client.Version(t.Context())
	if err != nil || got.Version != "1.2.3" || !strings.HasPrefix(got.Go, "go") {
		t.Errorf("Version() = %+v, %v", got, err)
	}
}

func TestLookup(t *testing.T) {
	f := &fake{answer: fullAnswer(), asked: make(chan LookupQuery, 1)}
	client, _ := start(t, f)
	for _, q := range []LookupQuery{
		{Address: "a@example.com"},
		{Address: `"a b&c=d#e%41+\"\x00"@exämple.com`, Client: "2001:db8::1", Authenticated: true},
		{Address: "<>", At: Time{time.Date(2026, 3, 4, 12, 0, 0, 5000, time.UTC)}},
	} {
		got, err := client.Lookup(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if asked := <-f.asked; asked != q {
			t.Errorf("Lookup(%+v) asks %+v", q, asked)
		}
		if d := cmp.Diff(fullAnswer().normal(), got); d != "" {
			t.Errorf("Lookup(%+v) (-want +got):\n%s", q, d)
		}
	}
	if _, err := client.Lookup(t.Context(), LookupQuery{}); err == nil ||
		!strings.Contains(err.Error(), "expected address") {
		t.Errorf("Lookup of nothing: %v", err)
	}
}

func TestBackendError(t *testing.T) {
	client, _ := start(t, &fake{err: errors.New("the disk is on fire")})
	if _, err := client.Status(t.Context()); err == nil || err.Error() != "the disk is on fire" {
		t.Errorf("Status: %v", err)
	}
}

func TestVerify(t *testing.T) {
	f := &fake{}
	client, _ := start(t, f)
	if got, err := client.Verify(t.Context()); err != nil || got != (Verified{3, 2, "00ff"}) {
		t.Errorf("Verify: %+v, %v", got, err)
	}
	f.err = errors.New("the store is damaged")
	if _, err := client.Verify(t.Context()); err == nil || err.Error() != f.err.Error() {
		t.Errorf("Verify of a damaged store: %v", err)
	}
}

func TestReload(t *testing.T) {
	f := &fake{}
	client, _ := start(t, f)
	if got, err := client.Reload(t.Context()); err != nil || got.Refused != "" || len(got.Changed) != 1 ||
		len(got.Restart) != 1 {
		t.Errorf("Reload: %+v, %v", got, err)
	}
}

// TestNotKept: the client can tell it from other errors, and has the words.
func TestNotKept(t *testing.T) {
	client, _ := start(t, &fake{err: fmt.Errorf("yesterday: %w", ErrNotKept)})
	_, err := client.Lookup(t.Context(), LookupQuery{Address: "a@b"})
	if !errors.Is(err, ErrNotKept) || err.Error() != "yesterday: no records are kept from that time" {
		t.Errorf("Lookup: %v", err)
	}
}

func TestSync(t *testing.T) {
	events := []SyncEvent{
		{Directory: "corp", Kind: "full", Seen: 10, Expected: 20},
		{Directory: "corp", Kind: "full", Seen: 20, Pass: &PassStatus{Number: 3, Result: ResultOK}},
	}
	for _, c := range []struct {
		err  error
		want string
	}{{nil, ""}, {errors.New("corp: the password is wrong"), "corp: the password is wrong"}} {
		proceed := make(chan struct{})
		client, _ := start(t, &fake{sync: func(_ context.Context, q SyncQuery, progress func(SyncEvent)) error {
			if !q.Full || !q.Wait {
				t.Errorf("asked for %+v", q)
			}
			for _, e := range events {
				progress(e)
				<-proceed // each line must come through before the next is made
			}
			return c.err
		}})
		var got []SyncEvent
		err := client.Sync(t.Context(), SyncQuery{Full: true, Wait: true}, func(e SyncEvent) {
			got = append(got, e)
			proceed <- struct{}{}
		})
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("Sync: %v, want %q", err, c.want)
		}
		if d := cmp.Diff(events, got); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	}
}

// TestSyncDaemonStops: a daemon that stops in the middle is an error, not an end.
func TestSyncDaemonStops(t *testing.T) {
	begun := make(chan struct{})
	client, stop := start(t, &fake{sync: func(ctx context.Context, _ SyncQuery, progress func(SyncEvent)) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}})
	go func() { <-begun; stop() }()
	err := client.Sync(t.Context(), SyncQuery{Wait: true}, func(SyncEvent) {})
	if !errors.Is(err, ErrNotReachable) {
		t.Errorf("Sync: %v, want ErrNotReachable", err)
	}
}

// TestSyncClientLeaves: the backend learns that the client is gone.
func TestSyncClientLeaves(t *testing.T) {
	left := make(chan error, 1)
	begun := make(chan struct{})
	client, _ := start(t, &fake{sync: func(ctx context.Context, _ SyncQuery, _ func(SyncEvent)) error {
		close(begun)
		<-ctx.Done()
		left <- ctx.Err()
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if err := client.Sync(ctx, SyncQuery{Wait: true}, func(SyncEvent) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v, want canceled", err)
	}
	if err := <-left; err == nil {
		t.Error("the backend did not learn it")
	}
}

func TestNotReachable(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "the socket does not exist; is the daemon running, with this configuration?"},
		{stale, "no process listens on the socket; is it running?"},
		{file, "no process listens on the socket; is it running?"},
	} {
		_, err := NewClient(c.path).Status(t.Context())
		want := "the daemon is not reachable at unix:" + c.path + ": " + c.want
		if !errors.Is(err, ErrNotReachable) || err.Error() != want {
			t.Errorf("Status: %v, want %s", err, want)
		}
	}
}

// TestStrangers: what no client of ours sends gets an error that says so.
func TestStrangers(t *testing.T) {
	client, _ := start(t, &fake{sync: func(context.Context, SyncQuery, func(SyncEvent)) error { return nil }})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/melt", "", 404, "unknown request to this daemon (version 1.2.3): GET /v1/melt"},
		{"GET", "/v1/journal?since=yesterday", "", 400, "expected optionally since (RFC 3339) and pass (a number)"},
		{"GET", "/v1/journal?pass=-1", "", 400, "expected optionally since (RFC 3339) and pass (a number)"},
		{"POST", "/v1/status", "", 404, "unknown request to this daemon (version 1.2.3): POST /v1/status"},
		{"POST", "/v1/sync", "{", 400, "cannot read the request: unexpected EOF"},
		{"POST", "/v1/sync", `{"fool": true}`, 400, `cannot read the request: json: unknown field "fool"`},
		{"POST", "/v1/sync", `{"full": "` + strings.Repeat("x", maxBody) + `"}`, 400,
			"cannot read the request: http: request body too large"},
		{"GET", "/v1/lookup?address=a&authenticated=maybe", "", 400,
			"expected address, and optionally client, authenticated and at (RFC 3339)"},
		{"GET", "/v1/lookup?address=a&at=noon", "", 400,
			"expected address, and optionally client, authenticated and at (RFC 3339)"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, "http://control"+c.path,
			strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var f failure
		err = json.NewDecoder(response.Body).Decode(&f)
		response.Body.Close()
		if response.StatusCode != c.status || err != nil || f.Error != c.want {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, response.StatusCode, f.Error, c.status, c.want)
		}
	}
}

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		states []State
		want   State
	}{
		{nil, Fresh},
		{[]State{Fresh, Late}, Late},
		{[]State{Stale, Late, Fresh}, Stale},
		{[]State{NotReady, Stale}, NotReady},
		{[]State{Retired}, Fresh},
		{[]State{Retired, Late}, Late},
		{[]State{NotReady, "melted"}, "melted"},
	} {
		if got := Worst(c.states...); got != c.want {
			t.Errorf("Worst(%q) = %q, want %q", c.states, got, c.want)
		}
	}
}
