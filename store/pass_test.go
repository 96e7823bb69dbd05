package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMoveNeverLeavesAnAddressUnowned(t *testing.T) {
	for _, order := range []string{"loser first", "winner first"} {
		t.Run(order, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
			read := []Object{object(t, 1), object(t, 2, "b@x.test", "a@x.test")}
			if order == "winner first" {
				slices.Reverse(read)
			}
			p, err := s.Begin("corp", Incremental, Origin{Started: start})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range read {
				if _, err := p.Apply([]Object{o}); err != nil {
					t.Fatal(err)
				}
				wantKnown(t, s, "a@x.test", "b@x.test")
			}
			if _, err := p.Commit(Outcome{Ended: start}); err != nil {
				t.Fatal(err)
			}
			wantKnown(t, s, "a@x.test", "b@x.test")
		})
	}
}

func TestAbortedPassRemovesNothing(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "c@x.test"))
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply([]Object{object(t, 1, "a@x.test", "new@x.test")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin("corp", Incremental, Origin{}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second pass beside the first: %v", err)
	}
	p.Abort()
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "new@x.test")
	// The marks of the aborted pass must not be released by the next one, which read nothing of
	// these objects.
	s = reopen(t, s)
	pass(t, s, "corp", Incremental, start, "")
	wantKnown(t, s, "a@x.test", "b@x.test", "c@x.test", "new@x.test")
	if d := s.Directory("corp"); d.Marked != 0 {
		t.Errorf("%d objects still marked", d.Marked)
	}
}

// TestBrokenFullPassIsRequired: an aborted full pass that has written something makes another
// one required until that completes, also over a restart.
func TestBrokenFullPassIsRequired(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	broken := func(why string, o Object) {
		t.Helper()
		p, err := s.Begin("corp", Full, Origin{Controller: "dc1.corp.example", Started: start, Why: why})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if _, err := p.Apply([]Object{o}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(want string) {
		t.Helper()
		if got := s.Directory("corp").FullPassPending; got != want {
			t.Errorf("owed because %q, want %q", got, want)
		}
	}
	broken("the first one", object(t, 1, "a@x.test"))
	want("")
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	broken("nothing new", object(t, 1, "a@x.test"))
	want("")
	broken("something new", object(t, 1, "a@x.test", "b@x.test"))
	want("something new")
	s = reopen(t, s)
	pass(t, s, "corp", Incremental, start, "", object(t, 2, "c@x.test"))
	broken("again", object(t, 1, "a@x.test", "d@x.test"))
	want("something new")
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	want("")
	s = reopen(t, s)
	want("")
}

// TestBegunCursor: the cursor of Begun is stored with the first change of the pass, and not without one. Nothing
// but the cursor changes, also over a restart, and for a directory that no pass has committed.
func TestBegunCursor(t *testing.T) {
	for _, tt := range []struct {
		name      string
		committed bool
	}{{"after a commit", true}, {"before the first commit", false}} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir()})
			before := ""
			if tt.committed {
				pass(t, s, "corp", Full, start, "committed", object(t, 1, "a@x.test"))
				before = string(s.Directory("corp").Cursor)
			}
			begun := func(kind Kind, cursor string, list ...Object) {
				t.Helper()
				p, err := s.Begin("corp", kind, Origin{Controller: "dc1.corp.example", Started: start.Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Abort()
				p.Begun([]byte(cursor))
				for _, o := range list {
					if _, err := p.Apply([]Object{o}); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := func(cursor string) {
				t.Helper()
				for range 2 {
					d := s.Directory("corp")
					if string(d.Cursor) != cursor || (d.LastFull.Number != 0) != tt.committed {
						t.Fatalf("cursor %q, last full pass %d; want %q", d.Cursor, d.LastFull.Number, cursor)
					}
					s = reopen(t, s)
				}
			}
			begun(Incremental, "nothing was written")
			want(before)
			if tt.committed {
				begun(Full, "no change", object(t, 1, "a@x.test"))
				want(before)
			}
			begun(Full, "one", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"))
			want("one")
			begun(Incremental, "two", object(t, 1, "a@x.test"), object(t, 3, "c@x.test"))
			want("two")
			pass(t, s, "corp", Full, start.Add(2*time.Hour), "", object(t, 1, "a@x.test"))
			tt.committed = true
			if got := string(s.Directory("corp").Cursor); got == "two" {
				t.Error("a commit did not replace it")
			}
		})
	}
}

// TestLastGoodIsTheNewestPass: not the one with the latest time, because the clock may have been
// set back since.
func TestLastGoodIsTheNewestPass(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start.Add(24*time.Hour), "", object(t, 1, "a@x.test"))
	pass(t, s, "corp", Incremental, start, "")
	if got := s.Directory("corp").LastGood(); !got.Equal(start) {
		t.Errorf("last good pass at %v, want %v", got, start)
	}
}

func TestUnchangedObjectsWriteNothing(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	objects := []Object{object(t, 1, "a@x.test", "b@x.test"), object(t, 2, "!c@y.test"),
		{GUID: GUID{9}, Class: "organizationalunit", DN: "OU=x", Container: true}, object(t, 3)}
	pass(t, s, "corp", Full, start, "", objects...)
	pass(t, s, "corp", Full, start, "", objects...)
	before := s.writer.commits
	for i := range objects {
		objects[i].USN += 1000 // what a logon does
	}
	pass(t, s, "corp", Incremental, start.Add(time.Hour), "", objects...)
	pass(t, s, "corp", Full, start.Add(2*time.Hour), "", objects...)
	if n := s.writer.commits - before; n != 2 {
		t.Errorf("two passes that found nothing made %d commits, want 2", n)
	}
	if c, err := s.readChunk([]byte(prefixPass), []byte(prefixPass), true); err != nil || len(c) != 3 {
		t.Errorf("%d rows of passes, want one for each full pass (%v)", len(c), err)
	}
}

func TestManyBatches(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	big := Object{GUID: GUID{1}, DN: "CN=big"}
	for i := range 12_000 {
		big.Addresses = append(big.Addresses, Owned{Address: mustParse(t, fmt.Sprintf("big%d@x.test", i)),
			Attribute: "proxyaddresses"})
	}
	objects := []Object{big}
	for i := range 9_000 {
		o := object(t, 0, fmt.Sprintf("user%d@x.test", i), fmt.Sprintf("alias%d@x.test", i))
		o.GUID = GUID{2, byte(i >> 8), byte(i)}
		objects = append(objects, o)
	}
	pass(t, s, "corp", Full, start, "", objects...)
	if got := s.Totals().Addresses; got != 30_000 || s.writer.commits < 3 {
		t.Errorf("%d addresses in %d commits, want 30000 in several", got, s.writer.commits)
	}
	pass(t, s, "corp", Full, start, "")
	if got := s.Totals(); got.Addresses != 0 || got.Objects != 0 || len(got.Domains) != 0 ||
		strings.Trim(got.Digest, "0") != "" {
		t.Errorf("totals of an emptied index: %+v", got)
	}
}
