package store

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rcpt-milter/address"
)

// The crash test runs a script of passes in a child process that kills itself right
// after the n-th commit, for every n, and looks at what the store then says.

const (
	crashDir = "STORE_TEST_CRASH_DIR"
	crashAt  = "STORE_TEST_CRASH_AT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir, os.Getenv(crashAt))
	}
	os.Exit(m.Run())
}

// step is one pass: what is read, and what the directory then holds.
type step struct {
	kind Kind
	hold string
	read map[byte][]string // objects that the pass sees
	want []string          // known after it
}

// script has every kind of change: first read, gain, loss, move in both orders, a
// second owner, deletion, removals held and released later, sweep.
var script = []step{
	{Full, "", map[byte][]string{1: {"a1@x", "a2@x"}, 2: {"b1@x"}, 3: {"c1@x", "c2@x"}, 4: {"d1@x"}}, []string{"a1@x", "a2@x", "b1@x", "c1@x", "c2@x", "d1@x"}},
	{Incremental, "", map[byte][]string{1: {"a1@x", "a3@x"}, 5: {"e1@x"}}, []string{"a1@x", "a3@x", "b1@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Incremental, "", map[byte][]string{1: {"a1@x"}, 2: {"b1@x", "a3@x", "c2@x"}, 3: {"c1@x"}}, []string{"a1@x", "a3@x", "b1@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Full, "too many", map[byte][]string{1: {"a1@x", "a4@x"}, 2: {"b1@x", "!b2@x"}}, []string{"a1@x", "a3@x", "a4@x", "b1@x", "!b2@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Full, "", map[byte][]string{1: {"a1@x", "a4@x"}, 2: {"b1@x", "b2@x"}, 4: {"d1@x"}}, []string{"a1@x", "a4@x", "b1@x", "b2@x", "d1@x"}},
	{Incremental, "", nil, []string{"a1@x", "a4@x", "b1@x", "b2@x", "d1@x"}},
	{Full, "", nil, nil},
	{Incremental, "", map[byte][]string{2: {"b1@x"}}, []string{"b1@x"}},
	{Incremental, "", map[byte][]string{2: {"b1@x"}, 6: {"f1@x", "f2@y"}, 7: {"g1@x", "g2@y"}}, []string{"b1@x", "f1@x", "f2@y", "g1@x", "g2@y"}},
	{Incremental, "y", map[byte][]string{6: {"f2@y"}, 7: nil}, []string{"b1@x", "f2@y", "g2@y"}}, // of that domain only
	{Full, "", map[byte][]string{2: {"b1@x"}, 6: {"f2@y"}}, []string{"b1@x", "f2@y"}},
}

// play runs the script from where the cursor of the store stands.
func play(s *Store) error {
	for i := position(s); i < len(script); i++ {
		if err := playStep(s, i); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func position(s *Store) int {
	cursor := s.Directory("corp").Cursor
	if cursor == nil {
		return 0
	}
	return int(cursor[0])
}

func playStep(s *Store, i int) error {
	at := start.Add(time.Duration(i) * time.Hour)
	p, err := s.Begin("corp", script[i].kind, Origin{Started: at})
	if err != nil {
		return err
	}
	defer p.Abort()
	for _, id := range slices.Sorted(maps.Keys(script[i].read)) {
		o := Object{GUID: GUID{id}, DN: fmt.Sprint("CN=", id)}
		for _, text := range script[i].read[id] {
			text, restricted := strings.CutPrefix(text, "!")
			a, err := address.Parse(text)
			if err != nil {
				return err
			}
			o.Addresses = append(o.Addresses, Owned{Address: a, Restricted: restricted})
		}
		if _, err := p.Apply([]Object{o}); err != nil { // one commit each
			return err
		}
	}
	if script[i].kind == Full {
		if err := p.Sweep(); err != nil {
			return err
		}
	}
	o := Outcome{Cursor: []byte{byte(i + 1)}, Ended: at, Hold: script[i].hold}
	if o.Hold == "y" {
		o.HoldDomains = []HeldDomain{{o.Hold, "too many"}}
	}
	_, err = p.Commit(o)
	return err
}

// crashChild never returns. It exits with 0 when the script ended before the n-th
// commit.
func crashChild(dir, at string) {
	n, err := strconv.Atoi(at)
	if err == nil {
		var s *Store
		s, err = Open(context.Background(), Config{Dir: dir, afterCommit: func(commit int) {
			if commit == n {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
		if err == nil {
			err = play(s)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestCrashAfterEveryCommit(t *testing.T) {
	var ended sync.Map
	const together = 8
	for n := 1; ; n += together {
		t.Run(fmt.Sprint("from ", n), func(t *testing.T) {
			for i := range together {
				t.Run(fmt.Sprint(n+i), func(t *testing.T) {
					t.Parallel()
					if crashOnce(t, n+i) {
						ended.Store(n+i, true)
					}
				})
			}
		})
		done := 0
		ended.Range(func(any, any) bool { done++; return true })
		if t.Failed() || done >= together {
			if n < 30 {
				t.Errorf("the script ended within %d commits: it does not reach what it should test", n)
			}
			return
		}
	}
}

// crashOnce reports whether the script ended before the n-th commit.
func crashOnce(t *testing.T, n int) bool {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, crashAt+"="+strconv.Itoa(n))
	out, err := child.CombinedOutput()
	if err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child failed: %v\n%s", err, out)
	}
	s := open(t, Config{Dir: dir})
	if err := s.Recount(); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	checkBetween(t, s)
	if playErr := play(s); playErr != nil {
		t.Fatal(playErr)
	}
	if err := s.Recount(); err != nil {
		t.Fatalf("at the end: %v", err)
	}
	wantKnown(t, s, script[len(script)-1].want...)
	checkHistory(t, s)
	return err == nil
}

// checkBetween: the cursor says what must be in the data. Further than that, whatever
// the next step keeps must be there, and nothing that neither of them has.
func checkBetween(t *testing.T, s *Store) {
	t.Helper()
	at := position(s)
	have := []string{}
	if at > 0 {
		have = script[at-1].want
	}
	next := have
	if at < len(script) {
		next = script[at].want
	}
	got := known(t, s)
	plain := func(list []string) map[string]bool {
		m := map[string]bool{}
		for _, a := range list {
			m[strings.TrimPrefix(a, "!")] = true
		}
		return m
	}
	haveSet, nextSet, gotSet := plain(have), plain(next), plain(got)
	for a := range haveSet {
		if !gotSet[a] && nextSet[a] {
			t.Errorf("at step %d %s is not known", at, a)
		}
		if !gotSet[a] && s.Directory("corp").Marked == 0 && !nextSet[a] {
			continue
		}
		if !gotSet[a] {
			t.Errorf("at step %d %s went before the pass was complete", at, a)
		}
	}
	for a := range gotSet {
		if !haveSet[a] && !nextSet[a] {
			t.Errorf("at step %d %s is known and nobody owns it", at, a)
		}
	}
}

// checkHistory: an object gains and loses an address in turns.
func checkHistory(t *testing.T, s *Store) {
	t.Helper()
	for _, text := range []string{"a1@x", "a2@x", "a3@x", "a4@x", "b1@x", "b2@x", "c1@x", "c2@x", "d1@x", "e1@x"} {
		events, err := s.History(mustParse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		has := map[GUID]bool{}
		for i, e := range events {
			if before, seen := has[e.GUID]; seen && before == e.Added {
				t.Errorf("history of %s, row %d of %+v: the same change twice", text, i, events)
			}
			has[e.GUID] = e.Added
		}
	}
}
