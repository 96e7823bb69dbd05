package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/control/metrics"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// stateWatch is a stateLog with states and a clock that the test sets.
type stateWatch struct {
	*stateLog
	t      *testing.T
	states []observedState
	clock  time.Time
	out    *bytes.Buffer
}

func newStateWatch(t *testing.T) *stateWatch {
	w := &stateWatch{t: t, clock: noon}
	log, out := newTestLog()
	w.out = out
	w.stateLog = newStateLog(func() []observedState { return w.states }, log, func() time.Time { return w.clock })
	return w
}

// set sets the states, each given as "name state". The last good pass was ten minutes ago.
func (w *stateWatch) set(states ...string) {
	w.states = nil
	for _, s := range states {
		name, state, _ := strings.Cut(s, " ")
		w.states = append(w.states, observedState{inDirectory, name, mirror.State(state),
			w.clock.Add(-10 * time.Minute), func() error { return errors.New("no route") }})
	}
}

// want runs Check and compares the log lines, with shortened messages, to the expected ones.
func (w *stateWatch) want(lines ...string) {
	w.t.Helper()
	w.Check()
	for range 3 { // an unchanged state must not be logged again
		w.Check()
	}
	want := ""
	for _, l := range lines {
		l = strings.Replace(l, " directory=", ` msg="directory state changed" directory=`, 1)
		want += "level=" + strings.Replace(l, " index ", ` msg="index state changed" `, 1) + "\n"
	}
	if got := w.out.String(); got != want {
		w.t.Errorf("the log has\n%swant\n%s", got, want)
	}
	w.out.Reset()
}

// TestStateChangesAreLogged checks that each change is logged once, with the duration of the previous state.
func TestStateChangesAreLogged(t *testing.T) {
	w := newStateWatch(t)
	w.set("corp fresh", "lab fresh")
	w.want()
	w.clock = w.clock.Add(time.Hour)
	w.set("corp late", "lab fresh")
	w.want(`WARN directory=corp state=late was=fresh lasted=1h0m0s last_good=2026-03-04T12:50:00Z age=10m0s `+
		`error="no route"`,
		`WARN index state=late was=fresh lasted=1h0m0s directories=corp`)
	w.clock = w.clock.Add(30 * time.Second)
	w.set("corp stale", "lab late")
	w.want(`ERROR directory=corp state=stale was=late lasted=30s last_good=2026-03-04T12:50:30Z age=10m0s `+
		`error="no route"`,
		`WARN directory=lab state=late was=fresh lasted=1h0m30s last_good=2026-03-04T12:50:30Z age=10m0s `+
			`error="no route"`,
		`ERROR index state=stale was=late lasted=30s directories=corp`)
	w.set("corp fresh", "lab late")
	w.want(`INFO directory=corp state=fresh was=stale lasted=0s last_good=2026-03-04T12:50:30Z age=10m0s`,
		`WARN index state=late was=stale lasted=0s directories=lab`)
	w.set("corp fresh", "lab fresh")
	w.want(`INFO directory=lab state=fresh was=late lasted=0s last_good=2026-03-04T12:50:30Z age=10m0s`,
		`INFO index state=fresh was=late lasted=0s directories="corp lab"`)
	w.set("corp widening", "lab not_ready")
	w.want(`WARN directory=corp state=widening was=fresh lasted=0s last_good=2026-03-04T12:50:30Z age=10m0s `+
		`error="no route"`,
		`WARN directory=lab state=not_ready was=fresh lasted=0s last_good=2026-03-04T12:50:30Z age=10m0s `+
			`error="no route"`,
		`WARN index state=not_ready was=fresh lasted=0s directories="corp lab"`)
}

// TestFirstStates checks that a first state is logged without a previous state, unless it is fresh. A removed
// directory is forgotten, and counts as new if it returns.
func TestFirstStates(t *testing.T) {
	w := newStateWatch(t)
	w.set("corp fresh", "lab stale")
	lab := `ERROR directory=lab state=stale last_good=2026-03-04T11:50:00Z age=10m0s error="no route"`
	w.want(lab, `ERROR index state=stale directories=lab`)
	w.set("corp fresh")
	w.want(`INFO index state=fresh was=stale lasted=0s directories=corp`)
	w.set("corp fresh", "lab stale")
	w.want(lab, `ERROR index state=stale was=fresh lasted=0s directories=lab`)
	w.states[1].lastGood, w.states[1].state = time.Time{}, mirror.NotReady
	w.want(`WARN directory=lab state=not_ready was=stale lasted=0s error="no route"`,
		`WARN index state=not_ready was=stale lasted=0s directories=lab`)
}

// stateLine matches a log line about the index or about a directory. It captures the name and the state.
var stateLine = regexp.MustCompile(`msg="(index|directory) state changed" (?:directory=(\S+) )?state=(\S+)`)

// TestStateLinesAreTheStates checks random changes. The lines of a directory must be its states in order,
// without repetition, and the lines of the index must be the worst states.
func TestStateLinesAreTheStates(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := []string{"fresh", "late", "stale", "not_ready", "widening"}
	names := []string{"corp", "lab", "shop"}
	w := newStateWatch(t)
	want := map[string][]string{}
	add := func(name, state string) {
		last := "fresh"
		if n := len(want[name]); n > 0 {
			last = want[name][n-1]
		}
		if state != last {
			want[name] = append(want[name], state)
		}
	}
	for range 2000 {
		var now []string
		worst := control.Fresh
		for _, name := range names {
			state := all[random.IntN(len(all))]
			now = append(now, name+" "+state)
			add(name, state)
			worst = control.Worst(worst, stateOf(mirror.State(state)))
		}
		add("index", string(worst))
		w.set(now...)
		for range 1 + random.IntN(3) {
			w.clock = w.clock.Add(time.Second)
			w.Check()
		}
	}
	got := map[string][]string{}
	for _, m := range stateLine.FindAllStringSubmatch(w.out.String(), -1) {
		name := m[2]
		if m[1] == "index" {
			name = "index"
		}
		got[name] = append(got[name], m[3])
	}
	for name, states := range want {
		if g, w := strings.Join(got[name], " "), strings.Join(states, " "); g != w {
			t.Errorf("%s: %d lines, want %d", name, len(got[name]), len(states))
		}
	}
}

// TestStatesOfARealMirror checks that a mirror becomes late and stale by time alone, becomes fresh again by a
// pass, and that a new mirror of the same directory is not a change.
func TestStatesOfARealMirror(t *testing.T) {
	ad, server, d := newTestDirectory(t)
	if _, err := ad.Add(adsim.User, "CN=jane,CN=Users,"+base, adsim.Attrs{"mail": {"jane@corp.example"}}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := newStateWatch(t)
	w.clock = time.Now().Truncate(time.Second) // the resolution of times in the store
	f := newSyncManager(s, metrics.New("test"), slog.New(slog.DiscardHandler))
	w.observe = f.states
	newMirror := func() *mirror.Mirror {
		c := f.mirrorConfig(&config.Config{LateAfter: 5 * time.Minute, StaleAfter: 30 * time.Minute}, d, nil)
		c.Now = func() time.Time { return w.clock }
		m, err := mirror.New(c)
		if err != nil {
			t.Fatal(err)
		}
		f.current.Store(&directorySet{{m, d}})
		return m
	}
	states := func(want string) {
		t.Helper()
		for range 3 {
			w.Check()
		}
		var got []string
		for _, m := range stateLine.FindAllStringSubmatch(w.out.String(), -1) {
			got = append(got, m[3])
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("states %q, want %q\n%s", g, want, w.out)
		}
		w.out.Reset()
	}
	m := newMirror()
	defer func() { m.Close() }()
	states("not_ready not_ready")
	if r := m.Pass(t.Context(), false); r.Err != nil {
		t.Fatal(r.Err)
	}
	states("fresh fresh")
	w.clock = w.clock.Add(5 * time.Minute)
	states("")
	w.clock = w.clock.Add(time.Second)
	states("late late")
	m.Close()
	m = newMirror()
	states("")
	w.clock = w.clock.Add(25 * time.Minute)
	states("stale stale")
	server.Down()
	if r := m.Pass(t.Context(), false); r.Err == nil {
		t.Fatal("a pass without a controller")
	}
	states("")
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}
	if r := m.Pass(t.Context(), false); r.Err != nil {
		t.Fatal(r.Err)
	}
	states("fresh fresh")
}
