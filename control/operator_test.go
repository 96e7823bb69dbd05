package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logBuffer collects lines without their time.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(line)
}

// lines returns what came since the last call.
func (b *logBuffer) lines() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string,
		a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// self is how this process is named in a line.
func self(t *testing.T) string {
	t.Helper()
	text := fmt.Sprintf("uid=%d", os.Getuid())
	if u, err := user.Current(); err == nil {
		text += " user=" + u.Username
	}
	return text
}

// TestOperatorActions: over a real socket, each action is a line with the account of the peer,
// written before the peer has its answer; a question is none.
func TestOperatorActions(t *testing.T) {
	failed := errors.New("no room")
	f := &fake{
		removals: []HeldRemoval{{Directory: "corp", Address: "a@corp.example"}},
		sync:     func(context.Context, SyncQuery, func(SyncEvent)) error { return nil },
		report:   func(ReportQuery) (Report, error) { return Report{}, nil },
		journal:  func(JournalQuery, func(JournalRow) error) error { return nil },
		export: func(_ context.Context, _ ExportQuery, tell func(ExportEvent) error) error {
			return errors.Join(tell(ExportEvent{Head: &ExportHead{}}),
				tell(ExportEvent{Recipients: make([]Recipient, 3)}))
		},
		compare: func(_ context.Context, _ CompareQuery, tell func(CompareEvent) error) error {
			return errors.Join(tell(CompareEvent{Difference: &Difference{}}),
				tell(CompareEvent{Directory: &ComparedDirectory{}}), failed)
		},
		settled: func(what string, q RemovalsQuery, tell func(RemovalsDone)) error {
			switch q.Directory {
			case "none":
				return nil
			case "bad":
				return failed
			}
			tell(RemovalsDone{Directory: "corp", Pass: 7, Removed: 12, Waiting: 1, Kept: 5})
			tell(RemovalsDone{Directory: "lab", Pass: 8, Kept: 2})
			return nil
		},
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(f, "1.2.3", log.logger()).Serve(ctx, l) }()
	defer func() {
		cancel()
		<-done
	}()
	c := NewClient(path)
	ignore := func(RemovalsDone) {}
	for _, a := range []struct {
		what string
		do   func()
		want []string // lines, but for what all have in common
	}{
		{"approve", func() { c.Approve(ctx, RemovalsQuery{Directory: "corp", UpTo: 6}, ignore) }, []string{
			"action=approve SELF directory=corp pass=7 removed=12 waiting=1 up_to=6",
			"action=approve SELF directory=lab " +
				"pass=8 removed=0 waiting=0 up_to=6"}},
		{"approve nothing", func() { c.Approve(ctx, RemovalsQuery{Directory: "none"}, ignore) },
			[]string{"action=approve SELF directory=none removed=0"}},
		{"approve in vain", func() { c.Approve(ctx, RemovalsQuery{Directory: "bad"}, ignore) },
			[]string{`action=approve SELF directory=bad error="no room"`}},
		{"discard", func() { c.Discard(ctx, RemovalsQuery{}, ignore) }, []string{
			"action=discard SELF directory=corp objects=5", "action=discard SELF directory=lab objects=2"}},
		{"discard nothing", func() { c.Discard(ctx, RemovalsQuery{Directory: "none"}, ignore) },
			[]string{"action=discard SELF directory=none objects=0"}},
		{"reload", func() { c.Reload(ctx) }, []string{"action=reload SELF changed=[domains] restart_needed=[listen]"}},
		{"sync", func() { c.Sync(ctx, SyncQuery{}, func(SyncEvent) {}) },
			[]string{"action=sync SELF full=false wait=false"}},
		{"sync in full", func() { c.Sync(ctx, SyncQuery{Full: true, Wait: true}, func(SyncEvent) {}) },
			[]string{"action=sync SELF full=true wait=true"}},
		{"compare", func() { c.Compare(ctx, CompareQuery{Directory: "corp"}, func(CompareEvent) error { return nil }) },
			[]string{
				`action=compare SELF directory=corp differences=1 error="no room"`}},
		{"export", func() { c.Export(ctx, ExportQuery{}, func(ExportEvent) error { return nil }) },
			[]string{"action=export SELF recipients=3"}},
		{"verify", func() { c.Verify(ctx) }, []string{"action=verify SELF"}},
		{"status", func() { c.Status(ctx) }, nil},
		{"lookup", func() { c.Lookup(ctx, LookupQuery{Address: "a@corp.example"}) }, nil},
		{"version", func() { c.Version(ctx) }, nil},
		{"report", func() { c.Report(ctx, ReportQuery{}) }, nil},
		{"journal", func() { c.Journal(ctx, JournalQuery{}, func(JournalRow) error { return nil }) }, nil},
		{"removals", func() { c.Removals(ctx, RemovalsQuery{}, func(HeldRemoval) error { return nil }) }, nil},
	} {
		a.do()
		var want strings.Builder
		for _, line := range a.want {
			want.WriteString(`level=INFO msg="operator action" ` + strings.ReplaceAll(line, "SELF", self(t)) + "\n")
		}
		if got := log.lines(); got != want.String() {
			t.Errorf("%s: the log has\n%swant\n%s", a.what, got, &want)
		}
	}
}

// TestRefusedReload: the reason is in the line.
func TestRefusedReload(t *testing.T) {
	var log logBuffer
	BySignal("SIGHUP").Reloaded(log.logger(), Reloaded{Refused: "config.yaml:1:1: bad"})
	want := `level=INFO msg="operator action" action=reload signal=SIGHUP changed=[] restart_needed=[] ` +
		`error="config.yaml:1:1: bad"` + "\n"
	if got := log.lines(); got != want {
		t.Errorf("the log has %swant %s", got, want)
	}
}

// TestOperatorNotKnown: over a connection that tells no account, and for an account without
// a name.
func TestOperatorNotKnown(t *testing.T) {
	local, remote := net.Pipe()
	defer local.Close()
	defer remote.Close()
	for _, c := range []struct {
		who  Operator
		want string
	}{
		{operatorOf(t.Context()), "[uid unknown]"},
		{operatorOf(withPeer(t.Context(), local)), "[uid unknown]"},
		{Operator{known: true, uid: 4_000_000_000}, "[uid 4000000000]"},
	} {
		if got := fmt.Sprint(c.who.attrs()); got != c.want {
			t.Errorf("%+v: %s, want %s", c.who, got, c.want)
		}
	}
}
