package store

import (
	"errors"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// endings are the ways in which a process ends, and the store that the next one opens.
var endings = map[string]func(t *testing.T, s *Store) *Store{
	"it goes on": func(_ *testing.T, s *Store) *Store { return s },
	"clean":      reopenClean,
	"killed":     reopenKilled,
	"killed twice": func(t *testing.T, s *Store) *Store {
		return reopenKilled(t, reopenKilled(t, s))
	},
	"killed, then clean": func(t *testing.T, s *Store) *Store { return reopenClean(t, reopenKilled(t, s)) },
}

func reopenClean(t *testing.T, s *Store) *Store { return reopen(t, s) }

// reopenKilled reopens a store to which nothing was written at the end, as after a process that
// was killed.
func reopenKilled(t *testing.T, s *Store) *Store {
	t.Helper()
	commit := s.config.commit
	s.config.commit = func(*badger.Txn, uint64) error { return errors.New("killed") }
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.config.commit = commit
	return open(t, s.config)
}

// TestSightingsOverARestart checks that what a pass has read without coming to its end counts in
// the next process too: a deletion at another database ends no wait unless it is later.
func TestSightingsOverARestart(t *testing.T) {
	const lag = 3 * time.Hour
	ann := object(t, 1, "ann@x.test")
	for name, end := range endings {
		for _, kind := range []Kind{Full, Incremental} {
			for _, aborted := range []bool{true, false} { // otherwise it still runs
				for _, known := range []bool{true, false} { // the database was read before
					if name == "it goes on" && !aborted {
						continue
					}
					t.Run(name+", "+kind.String(), func(t *testing.T) {
						at := start
						begin := func(s *Store, dc string, kind Kind) *Pass {
							t.Helper()
							p, err := s.Begin("corp", kind, Origin{Controller: dc, Database: "db of " + dc, Started: at,
								Lag: lag})
							if err != nil {
								t.Fatal(err)
							}
							return p
						}
						apply := func(p *Pass, o Object) {
							t.Helper()
							o.Read = at
							if _, err := p.Apply([]Object{o}); err != nil {
								t.Fatal(err)
							}
						}
						commit := func(p *Pass) {
							t.Helper()
							if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at}); err != nil {
								t.Fatal(err)
							}
						}
						s := open(t, Config{Dir: t.TempDir(), Now: func() time.Time { return at }})
						whole := func(dc string) {
							t.Helper()
							p := begin(s, dc, Full)
							apply(p, ann)
							commit(p)
						}
						if known {
							whole("dc2")
							at = at.Add(day)
						}
						whole("dc1")
						at = at.Add(day)
						p := begin(s, "dc2", kind)
						at = at.Add(10 * time.Minute)
						apply(p, ann) // alive there
						if aborted {
							p.Abort()
						}
						at = at.Add(10 * time.Minute)
						s = end(t, s)
						p = begin(s, "dc1", Full)
						gone := object(t, 1)
						gone.Deleted, gone.Deletion.After = true, at.Add(-15*time.Minute)
						apply(p, gone)
						commit(p)
						wantKnown(t, s, "ann@x.test")
						at = at.Add(lag + time.Minute)
						commit(begin(s, "dc1", Incremental))
						wantKnown(t, s)
					})
				}
			}
		}
	}
}

// TestSightingsEndWithAGoodPass checks that after a restart a database counts as read until its
// last good pass, if the previous process read no further.
func TestSightingsEndWithAGoodPass(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*testing.T, *Store) *Store
		want []string
	}{
		"clean":  {reopenClean, nil},
		"killed": {reopenKilled, []string{"ann@x.test"}}, // it may have read until then
	} {
		t.Run(name, func(t *testing.T) {
			at := start
			s := open(t, Config{Dir: t.TempDir(), Now: func() time.Time { return at }})
			read := func(dc string, o Object) {
				t.Helper()
				p, err := s.Begin("corp", Full, Origin{Controller: dc, Database: dc, Started: at, Lag: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Apply([]Object{o}); err != nil {
					t.Fatal(err)
				}
				if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at}); err != nil {
					t.Fatal(err)
				}
			}
			read("dc1", object(t, 1, "ann@x.test"))
			at = at.Add(time.Minute)
			read("dc2", object(t, 1, "ann@x.test"))
			at = at.Add(10 * time.Minute)
			s = c.end(t, s)
			gone := object(t, 1)
			gone.Deleted, gone.Deletion.After = true, at.Add(-5*time.Minute)
			read("dc1", gone)
			wantKnown(t, s, c.want...)
		})
	}
}

// TestDoubtLastGood checks that the doubt about a pass survives a restart and ends with the next
// pass that reads.
func TestDoubtLastGood(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	doubt := func() {
		t.Helper()
		if err := s.DoubtLastGood("corp"); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want bool) {
		t.Helper()
		for range 2 {
			if got := s.Directory("corp").LastGoodDoubted; got != want {
				t.Errorf("doubted %t, want %t", got, want)
			}
			s = reopen(t, s)
		}
	}
	doubt()
	want(false)
	for _, kind := range []Kind{Full, Incremental} {
		pass(t, s, "corp", kind, start, "", object(t, 1, "a@x.test"))
		want(false)
		doubt()
		doubt()
		want(true)
	}
	if _, err := s.Approve("corp", 0, s.Directory("corp").Fingerprint, start); err != nil {
		t.Fatal(err)
	}
	want(true)
}
