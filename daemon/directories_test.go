package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/metrics"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/policy"
	"rcpt-milter/store"
)

// TestStatesOfMirrors checks that status shows every state of a mirror, including undefined ones.
func TestStatesOfMirrors(t *testing.T) {
	for in, want := range map[policy.State]policy.State{
		policy.Fresh: policy.Fresh, policy.Late: policy.Late, policy.Stale: policy.Stale,
		policy.Widening: policy.NotReady, policy.NotReady: policy.NotReady, "melted": "melted",
	} {
		t.Run(string(in), func(t *testing.T) {
			if got := stateOf(in); got != want {
				t.Errorf("stateOf = %q, want %q", got, want)
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	started := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	got := statusOf("corp", mirror.Status{
		State: mirror.Late, Controller: "dc1", InvocationID: directory.GUID{1}, USN: 5, HighestUSN: 7,
		FullReason: "first", LastGood: started,
		Full: store.PassInfo{Number: 1, Kind: store.Full, Started: started,
			Ended: started.Add(1500 * time.Millisecond), Seen: 9, Added: 8, Changed: 7, Removed: 6},
		Incremental:   store.PassInfo{Number: 2, Started: started, Ended: started, Held: 4, Hold: "too many"},
		HeldAddresses: 4, HoldReason: "too many",
		NextPass: started, LastError: errors.New("down"), FailingSince: started, RootKnown: true, DeletedHidden: true,
		GrantCommands: []string{"dsacls"},
		Running:       &mirror.Progress{Kind: store.Full, Started: started, Seen: 3},
	})
	at := control.Time{Time: started}
	want := control.DirectoryStatus{
		Name: "corp", State: control.Late, DomainController: "dc1",
		InvocationID: "00000001-0000-0000-0000-000000000000",
		USN:          5, HighestCommittedUSN: 7, LastSuccess: at, FullPassReason: "first",
		LastError: "down", FailingSince: at,
		LastFull: &control.PassStatus{Number: 1, Started: at, Seconds: 1.5, Seen: 9, Added: 8, Changed: 7,
			Removed: 6, Result: "ok"},
		LastIncremental: &control.PassStatus{Number: 2, Started: at, Result: "held"},
		Running:         &control.SyncEvent{Directory: "corp", Kind: "full", Started: at, Seen: 3, Expected: 9},
		HeldRemovals:    4, HoldReason: "too many", DeletedObjectsVisible: new(bool),
		DeletedObjectsGrant: []string{"dsacls"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("statusOf (-want +got):\n%s", d)
	}
	empty := statusOf("corp", mirror.Status{State: mirror.NotReady})
	if d := cmp.Diff(control.DirectoryStatus{Name: "corp", State: control.NotReady}, empty); d != "" {
		t.Errorf("statusOf nothing (-want +got):\n%s", d)
	}
}

func TestResultOf(t *testing.T) {
	for _, c := range []struct {
		in   mirror.PassResult
		want string
	}{
		{mirror.PassResult{}, control.ResultOK},
		{mirror.PassResult{Info: store.PassInfo{Hold: "too many"}}, control.ResultHeld},
		{mirror.PassResult{Err: errors.New("down")}, control.ResultFailed},
	} {
		if got := resultOf(c.in); got != c.want {
			t.Errorf("resultOf(%+v) = %q, want %q", c.in, got, c.want)
		}
	}
}

// TestSecretOf checks that the digest changes with the password and does not contain it.
func TestSecretOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	secret := secretDigest(config.Bind{PasswordFile: path})
	seen := map[string]string{secret(): "no file"}
	for _, password := range []string{"hunter2", "hunter3", ""} {
		if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		got := secret()
		if before, ok := seen[got]; ok {
			t.Errorf("the same for %q as for %s", password, before)
		}
		if password != "" && got == password {
			t.Errorf("the digest contains the password")
		}
		seen[got] = password
		if secret() != got {
			t.Errorf("not the same twice for %q", password)
		}
	}
}

// TestGateOfAReload checks that a directory with new settings but the same account remembers a rejected bind. With
// another account, it must forget it.
func TestGateOfAReload(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := newSyncManager(s, metrics.New("test"), slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	for _, name := range []string{"password", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(change func(*config.Directory)) directorySet {
		d := config.Directory{Name: "corp", URLs: []string{"ldaps://dc1.corp.example"}, Poll: time.Second,
			Full: time.Hour,
			Bind: config.Bind{DN: "svc-mail@corp.example", PasswordFile: filepath.Join(dir, "password")}}
		change(&d)
		next, err := f.prepare(&config.Config{Directories: []config.Directory{d}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	first := at(func(*config.Directory) {})
	f.current.Store(&first)
	for _, c := range []struct {
		what   string
		change func(*config.Directory)
		same   bool
	}{
		{"poll", func(d *config.Directory) { d.Poll = time.Minute }, true},
		{"bases", func(d *config.Directory) { d.Bases = []string{"OU=a,DC=x"} }, true},
		{"name", func(d *config.Directory) { d.Name = "other" }, true},
		{"urls", func(d *config.Directory) { d.URLs = []string{"ldaps://dc2.corp.example"} }, true},
		{"account", func(d *config.Directory) { d.Bind.DN = "other@corp.example" }, false},
		{"password file", func(d *config.Directory) { d.Bind.PasswordFile = filepath.Join(dir, "other") }, false},
		{"discover", func(d *config.Directory) { d.URLs, d.Discover = nil, "corp.example" }, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			if next := at(c.change); (next[0].Gate() == first[0].Gate()) != c.same ||
				next[0].Mirror == first[0].Mirror {
				t.Errorf("the same gate %t, want %t", !c.same, c.same)
			}
		})
	}
	f.current.Store(&directorySet{}) // the directory was absent meanwhile
	if next := at(func(*config.Directory) {}); next[0].Gate() != first[0].Gate() {
		t.Error("the gate is forgotten with the directory")
	}
}

// TestGateOfAnAccount checks that directories with the same account share a gate, so a rejected password is tried
// once.
func TestGateOfAnAccount(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sm := newSyncManager(s, metrics.New("test"), slog.New(slog.DiscardHandler))
	corp := config.Directory{Name: "corp", URLs: []string{"ldaps://dc1.corp.example"}, Poll: time.Second,
		Full:  time.Hour,
		Bases: []string{"OU=a,DC=x"}, Bind: config.Bind{DN: "svc-mail@corp.example", PasswordFile: "/password"}}
	unit, other := corp, corp
	unit.Name, unit.Bases = "unit", []string{"OU=b,DC=x"}
	other.Name, other.Bind.DN = "other", "other@corp.example"
	set, err := sm.prepare(&config.Config{Directories: []config.Directory{corp, unit, other}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if set[0].Gate() != set[1].Gate() {
		t.Error("two directories with one account have two gates")
	}
	if set[0].Gate() == set[2].Gate() {
		t.Error("two accounts have one gate")
	}
}

// TestCandidatesKnowTheirPort checks that each candidate has the view of its port: the Global Catalog or the
// whole domain.
func TestCandidatesKnowTheirPort(t *testing.T) {
	all := candidatesAt(config.Directory{}, []string{"ldaps://dc1.corp.example:636", "ldap://dc1.corp.example:389",
		"ldaps://dc1.corp.example:3269", "ldap://dc1.corp.example:3268"})
	for i, c := range all {
		if got, want := c.View == mirror.ViewOfPort("3269"), i >= 2; got != want || c.Host != "dc1.corp.example" ||
			c.View == "" {
			t.Errorf("%+v", c)
		}
	}
}

// TestSyncManagerChange checks that a reload keeps the mirrors of unchanged directories, retires directories
// that are no longer configured, and reactivates a retired directory.
func TestSyncManagerChange(t *testing.T) {
	s := newTestStore(t)
	addAddresses(t, s, "corp", "jane@corp.example")
	addAddresses(t, s, "lab", "jim@lab.example")
	f := newSyncManager(s, metrics.New("test"), slog.New(slog.DiscardHandler))
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	directoryNamed := func(name string) config.Directory {
		return config.Directory{Name: name, URLs: []string{"ldaps://" + name + ".invalid"}, Poll: time.Second,
			Full: time.Hour,
			Bind: config.Bind{DN: "svc", PasswordFile: password}}
	}
	corp, lab := directoryNamed("corp"), directoryNamed("lab")
	slower := corp
	slower.Poll = time.Minute
	owning := corp
	owning.Domains = []string{"corp.example"}
	var before directorySet
	for _, step := range []struct {
		name        string
		directories []config.Directory
		keeps       bool     // the mirror of corp
		all         []string // directories, including retired ones
	}{
		{"first configuration", []config.Directory{corp, lab}, false, []string{"corp followed", "lab followed"}},
		{"nothing changed", []config.Directory{corp, lab}, true, []string{"corp followed", "lab followed"}},
		{"other mail domains", []config.Directory{owning, lab}, true, []string{"corp followed", "lab followed"}},
		{"other interval", []config.Directory{slower, lab}, false, []string{"corp followed", "lab followed"}},
		{"directory removed", []config.Directory{slower}, true, []string{"corp followed", "lab retired"}},
		{"directory comes back", []config.Directory{lab, slower}, true, []string{"lab followed", "corp followed"}},
	} {
		c := &config.Config{Directories: step.directories}
		next, err := f.prepare(c, nil)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		swapped := false
		f.apply(c, next, func() { swapped = true })
		if kept := len(before) > 0 && next.contains(before[slices.IndexFunc(before,
			func(d syncedDirectory) bool { return d.Name() == "corp" })].Mirror); kept != step.keeps || !swapped {
			t.Errorf("%s: kept the mirror of corp %t, want %t; swapped %t", step.name, kept, step.keeps, swapped)
		}
		var all []string
		for _, k := range f.syncers() {
			kind := " followed"
			if _, retired := k.(*mirror.RetiredDirectory); retired {
				kind = " retired"
			}
			all = append(all, k.Name()+kind)
		}
		if d := cmp.Diff(step.all, all); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
		before = next
	}
}

// TestUnusableSecretAtReload checks that a reload does not replace a working connection if the new secret is
// unusable. The first configuration is accepted, because it has no connection to lose.
func TestUnusableSecretAtReload(t *testing.T) {
	f := newSyncManager(newTestStore(t), metrics.New("test"), slog.New(slog.DiscardHandler))
	c := &config.Config{Directories: []config.Directory{{Name: "corp", URLs: []string{"ldaps://dc1.invalid"},
		Poll: time.Second,
		Full: time.Hour, Bind: config.Bind{DN: "svc", PasswordFile: filepath.Join(t.TempDir(), "none")}}}}
	next, err := f.prepare(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.apply(c, next, func() {})
	if _, err := f.prepare(c, nil); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	c.Directories[0].Poll = time.Minute
	if _, err := f.prepare(c, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("changed: %v", err)
	}
}
