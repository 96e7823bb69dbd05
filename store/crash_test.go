package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
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

// The crash test runs a script of passes in a child process that kills itself right after the
// n-th commit, for every n. Then it checks what the store answers.

const (
	crashDir    = "STORE_TEST_CRASH_DIR"
	crashAt     = "STORE_TEST_CRASH_AT"
	crashScript = "STORE_TEST_CRASH_SCRIPT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir, os.Getenv(crashAt), scripts[os.Getenv(crashScript)])
	}
	os.Exit(m.Run())
}

// A step is one pass or one command: what is read, and what is known afterwards.
type step struct {
	kind Kind
	hold string            // or approve or discard
	read map[byte][]string // objects that the pass sees; n#3 stands for n1, n2 and n3
	want []string          // known after it
}

const approve, discard = "approve", "discard"

// A crashTest is a script and the store that it runs on.
type crashTest struct {
	steps    []step
	memTable int64
	commits  int // it takes at least this many
}

var scripts = map[string]crashTest{
	"every kind of change": {script, 0, 30},
	"heavy objects":        {heavyScript, 1 << 20, 40},
}

// heavyScript has objects that do not fit a transaction of its store.
var heavyScript = []step{
	{Full, "", map[byte][]string{1: {"news#1200@x"}, 2: {"p#20@x"}, 3: {"q#20@y"}},
		[]string{"news#1200@x", "p#20@x", "q#20@y"}},
	{Incremental, "", map[byte][]string{1: {"news#700@x"}, 2: {"p#20@x", "r#20@z"}},
		[]string{"news#700@x", "p#20@x", "q#20@y", "r#20@z"}},
	{Full, "too many", map[byte][]string{2: {"p#20@x", "!r#20@z"}},
		[]string{"news#700@x", "p#20@x", "q#20@y", "!r#20@z"}},
	{Full, discard, nil, []string{"news#700@x", "p#20@x", "q#20@y", "!r#20@z"}},
	{Full, "too many", map[byte][]string{2: {"p#20@x", "r#20@z"}},
		[]string{"news#700@x", "p#20@x", "q#20@y", "r#20@z"}},
	{Incremental, "too many", map[byte][]string{3: {"q#20@y"}, 4: {"!news#1200@x"}},
		[]string{"news#700@x", "!news700#500@x", "p#20@x", "q#20@y", "r#20@z"}},
	{Incremental, approve, nil, []string{"!news#1200@x", "p#20@x", "q#20@y", "r#20@z"}},
	{Full, "", map[byte][]string{3: {"q#20@y"}}, []string{"q#20@y"}},
}

// expand returns the addresses that a pattern like n#3@x stands for; n2#3@x begins at n3@x.
func expand(words []string) (all []string) {
	for _, word := range words {
		name, rest, many := strings.Cut(word, "#")
		if !many {
			all = append(all, word)
			continue
		}
		count, domain, _ := strings.Cut(rest, "@")
		digits := strings.TrimLeft(name, "!abcdefghijklmnopqrstuvwxyz")
		name = strings.TrimSuffix(name, digits)
		first, _ := strconv.Atoi(digits)
		n, _ := strconv.Atoi(count)
		for i := range n {
			all = append(all, fmt.Sprintf("%s%d@%s", name, first+i+1, domain))
		}
	}
	return all
}

// script has every kind of change: first read, gain, loss, move in both orders, a second owner,
// deletion, removals that are held and released later, sweep.
var script = []step{
	{Full, "", map[byte][]string{1: {"a1@x", "a2@x"}, 2: {"b1@x"}, 3: {"c1@x", "c2@x"}, 4: {"d1@x"}},
		[]string{"a1@x", "a2@x", "b1@x", "c1@x", "c2@x", "d1@x"}},
	{Incremental, "", map[byte][]string{1: {"a1@x", "a3@x"}, 5: {"e1@x"}},
		[]string{"a1@x", "a3@x", "b1@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Incremental, "", map[byte][]string{1: {"a1@x"}, 2: {"b1@x", "a3@x", "c2@x"}, 3: {"c1@x"}},
		[]string{"a1@x", "a3@x", "b1@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Full, "too many", map[byte][]string{1: {"a1@x", "a4@x"}, 2: {"b1@x", "!b2@x"}},
		[]string{"a1@x", "a3@x", "a4@x", "b1@x", "!b2@x", "c1@x", "c2@x", "d1@x", "e1@x"}},
	{Full, "", map[byte][]string{1: {"a1@x", "a4@x"}, 2: {"b1@x", "b2@x"}, 4: {"d1@x"}},
		[]string{"a1@x", "a4@x", "b1@x", "b2@x", "d1@x"}},
	{Incremental, "", nil, []string{"a1@x", "a4@x", "b1@x", "b2@x", "d1@x"}},
	{Full, "", nil, nil},
	{Incremental, "", map[byte][]string{2: {"b1@x"}}, []string{"b1@x"}},
	{Incremental, "", map[byte][]string{2: {"b1@x"}, 6: {"f1@x", "f2@y"}, 7: {"g1@x", "g2@y"}},
		[]string{"b1@x", "f1@x", "f2@y", "g1@x", "g2@y"}},
	{Incremental, "y", map[byte][]string{6: {"f2@y"}, 7: nil}, []string{"b1@x", "f2@y", "g2@y"}}, // of that domain only
	{Full, "", map[byte][]string{2: {"b1@x"}, 6: {"f2@y"}}, []string{"b1@x", "f2@y"}},
}

// play runs the script from the cursor of the store on. After every other step it publishes what
// changed.
func (c crashTest) play(s *Store) error {
	if err := s.SetFeed("corp", true); err != nil {
		return err
	}
	for i := position(s); i < len(c.steps); i++ {
		err := playStep(s, i, c.steps[i])
		if err == nil && i%2 == 1 {
			err = publishToFile(s, "corp")
		}
		if err != nil {
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

func playStep(s *Store, i int, do step) error {
	at := start.Add(time.Duration(i) * time.Hour)
	switch do.hold {
	case approve:
		_, err := approveHeld(s, "corp", math.MaxUint64, at)
		return err
	case discard:
		_, err := s.Discard("corp", at)
		return err
	}
	p, err := s.Begin("corp", do.kind, Origin{Started: at})
	if err != nil {
		return err
	}
	defer p.Abort()
	for _, id := range slices.Sorted(maps.Keys(do.read)) {
		o := Object{GUID: GUID{id}, DN: fmt.Sprint("CN=", id)}
		for _, text := range expand(do.read[id]) {
			text, internalOnly := strings.CutPrefix(text, "!")
			a, err := address.Parse(text)
			if err != nil {
				return err
			}
			o.Addresses = append(o.Addresses, Owned{Address: a, InternalOnly: internalOnly})
		}
		if _, err := p.Apply([]Object{o}); err != nil { // one commit each
			return err
		}
	}
	if do.kind == Full {
		if err := p.Sweep(); err != nil {
			return err
		}
	}
	o := Outcome{Cursor: []byte{byte(i + 1)}, Ended: at, Hold: do.hold}
	if o.Hold == "y" {
		o.HoldDomains = []HeldDomain{{o.Hold, "too many"}}
	}
	_, err = p.Commit(o)
	return err
}

// crashChild never returns. It exits with 0 when the script ended before the n-th
// commit.
func crashChild(dir, at string, c crashTest) {
	n, err := strconv.Atoi(at)
	if err == nil {
		fmt.Println("begin") // see killAt
		var s *Store
		s, err = Open(context.Background(), Config{Dir: dir, memTable: c.memTable, afterCommit: func(commit int) {
			if commit == n {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
		if err == nil {
			err = c.play(s)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestCrashAfterEveryCommit(t *testing.T) {
	for name, c := range scripts {
		t.Run(name, func(t *testing.T) {
			c.atEveryCommit(t, 1, func(t *testing.T, n int) bool { return c.crashOnce(t, name, n) })
		})
	}
}

// TestDiskFullAtEveryCommit: the n-th commit and all after it fail. Then there is space again,
// with and without a restart.
func TestDiskFullAtEveryCommit(t *testing.T) {
	for name, c := range scripts {
		t.Run(name, func(t *testing.T) { c.atEveryCommit(t, 2, c.diskFullOnce) })
	}
}

var everyCommit = flag.Bool("every-commit", false,
	"crashes and failures at every commit, and every damage of every file, not only some of them")

// atEveryCommit runs a test for the first commit and later ones, until the test reports that the
// script ended before. By default it skips some, and more with the race detector; first selects which ones.
func (c crashTest) atEveryCommit(t *testing.T, first int, once func(t *testing.T, n int) (ended bool)) {
	var ended sync.Map
	const together = 4
	stride := 8
	switch {
	case *everyCommit:
		first, stride = 1, 1
	case raceDetector:
		stride = 24
	}
	for n := first; ; n += together * stride {
		t.Run(fmt.Sprint("from ", n), func(t *testing.T) {
			for i := range together {
				at := n + i*stride
				t.Run(fmt.Sprint(at), func(t *testing.T) {
					t.Parallel()
					if once(t, at) {
						ended.Store(at, true)
					}
				})
			}
		})
		done := 0
		ended.Range(func(any, any) bool { done++; return true })
		if t.Failed() || done > 0 && stride > 1 || done >= together {
			if n+together*stride < c.commits {
				t.Errorf("the script ended within %d commits: it does not reach what it should test", n)
			}
			return
		}
	}
}

// diskFullOnce reports whether the script ended before the n-th commit.
func (c crashTest) diskFullOnce(t *testing.T, n int) bool {
	left := n - 1
	var s *Store
	s = open(t, Config{Dir: t.TempDir(), MinFree: 1, memTable: c.memTable, FreeSpace: func(string) (uint64, error) {
		if s == nil || left > 0 {
			return 1 << 30, nil
		}
		return 0, nil
	}, afterCommit: func(int) { left-- }})
	err := c.play(s)
	if err != nil && !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	checkSound(t, s)
	left = math.MaxInt
	if n%2 == 0 {
		s = reopen(t, s) // finishes a pass that was decided
		c.checkBetween(t, s)
	}
	c.playOn(t, s)
	return err == nil
}

// playOn runs the rest of an interrupted script and checks the result.
func (c crashTest) playOn(t *testing.T, s *Store) {
	t.Helper()
	if err := c.play(s); err != nil {
		t.Fatal(err)
	}
	if err := publishToFile(s, "corp"); err != nil {
		t.Fatal(err)
	}
	wantFollowed(t, s, "corp", readStream(t, s))
	checkSound(t, s)
	wantKnown(t, s, expand(c.steps[len(c.steps)-1].want)...)
	checkHistory(t, s)
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
}

// crashOnce reports whether the script ended before the n-th commit.
func (c crashTest) crashOnce(t *testing.T, name string, n int) bool {
	dir := t.TempDir()
	out, err := crashCommand(dir, name, n).CombinedOutput()
	if err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child failed: %v\n%s", err, out)
	}
	c.checkAfterCrash(t, dir)
	return err == nil
}

// crashCommand returns the child that runs a script on a store and kills itself after the n-th commit.
func crashCommand(dir, script string, n int) *exec.Cmd {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, crashAt+"="+strconv.Itoa(n), crashScript+"="+script)
	return child
}

// checkAfterCrash opens the store of a child that was killed, checks it and runs the rest of the script.
func (c crashTest) checkAfterCrash(t *testing.T, dir string) {
	s := open(t, Config{Dir: dir, memTable: c.memTable})
	if err := s.Verify(); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if doubt := s.Directory("corp").Doubt; doubt != "" {
		t.Errorf("after the crash: %s", doubt)
	}
	checkSound(t, s)
	c.checkBetween(t, s)
	c.playOn(t, s)
}

// checkBetween: the data must have everything up to the cursor. Beyond it, the data must have
// what the next step keeps, and nothing that neither step has.
func (c crashTest) checkBetween(t *testing.T, s *Store) {
	t.Helper()
	at := position(s)
	have := []string{}
	if at > 0 {
		have = expand(c.steps[at-1].want)
	}
	next := have
	if at < len(c.steps) {
		next = expand(c.steps[at].want)
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

// checkHistory: an object gains and loses an address alternately. So do outside senders while
// the object has it.
func checkHistory(t *testing.T, s *Store) {
	t.Helper()
	for _, text := range []string{"a1@x", "a2@x", "a3@x", "a4@x", "b1@x", "b2@x", "c1@x", "c2@x", "d1@x", "e1@x"} {
		events, err := s.History(mustParse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		has, open := map[GUID]bool{}, map[GUID]bool{}
		for i, e := range events {
			turns := has
			if e.OutsideOnly {
				turns = open
			} else {
				delete(open, e.GUID)
			}
			if before, seen := turns[e.GUID]; seen && before == e.Added {
				t.Errorf("history of %s, row %d of %+v: the same change twice", text, i, events)
			}
			if there, seen := has[e.GUID]; e.OutsideOnly && seen && !there {
				t.Errorf("history of %s, row %d of %+v: of an object that does not have it", text, i, events)
			}
			turns[e.GUID] = e.Added
		}
	}
}
