package store

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// TestMissAfterSetAside: right after a store was set aside, a miss is an error, because a
// decision in flight may have seen its directories fresh.
func TestMissAfterSetAside(t *testing.T) {
	c := serving(filledDir(t, nil, 50))
	c.settle = time.Hour
	s := open(t, c)
	epoch := s.Epoch()
	s.markDamaged(errors.New("checksum mismatch"))
	p, err := s.Begin("corp", Full, Origin{Controller: "dc1", Started: start})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if d := s.Directory("corp"); d.LastFull.Number != 0 || d.Epoch == epoch || s.Epoch() == epoch {
		t.Errorf("the new store has %+v in epoch %d", d, s.Epoch())
	}
	if got, err := s.Lookup(mustParse(t, "u1@corp.example")); err == nil {
		t.Errorf("a miss right after that: %+v", got)
	}
}

// TestOlderState: files of an earlier time are in place of the last ones, and only the mark knows
// better. Misses do not count until a full pass has ended, also after a restart.
func TestOlderState(t *testing.T) {
	c := serving(t.TempDir())
	s := open(t, c)
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"), object(t, 3, "!c@x.test"))
	wantDoubt := func(want bool) {
		t.Helper()
		if p := presence(t, s, "c@x.test"); (p.Doubt != nil) != want || !p.InternalOnly {
			t.Errorf("internal-only address: %+v, want doubt: %t", p, want)
		}
	}
	wantDoubt(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	older := copyOf(t, c.Dir)
	s = open(t, c)
	pass(t, s, "corp", Incremental, start.Add(time.Minute), "", object(t, 2, "b@x.test"))
	s.Close()
	mark, err := os.ReadFile(filepath.Join(c.Dir, commitFileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(older, commitFileName), mark, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = older
	for i := range 3 {
		s = open(t, c)
		if d := s.Directory("corp"); !strings.Contains(d.Doubt, "older state") || d.LastFull.Number == 0 {
			t.Fatalf("start %d: %+v", i, d)
		}
		wantDoubt(true)
		if i == 1 { // something else is written, which moves the mark
			for range 20 {
				if err := s.PutRefusals(NewRefusals(start)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i < 2 {
			s.Close()
		}
	}
	pass(t, s, "corp", Incremental, start.Add(2*time.Minute), "", object(t, 2, "b@x.test"))
	if s.Directory("corp").Doubt == "" {
		t.Error("an incremental pass ends the doubt")
	}
	pass(t, s, "corp", Full, start.Add(3*time.Minute), "", object(t, 1, "a@x.test"), object(t, 2, "b@x.test"),
		object(t, 3, "!c@x.test"))
	wantDoubt(false)
	for range 2 {
		if d := s.Directory("corp"); d.Doubt != "" {
			t.Errorf("after a full pass: %q", d.Doubt)
		}
		s = reopen(t, s)
	}
	wantKnown(t, s, "!c@x.test", "a@x.test", "b@x.test")
}

// TestLostCommit: a record is missing that no file shows to be missing. The sum over all records
// tells, unless an earlier version of the program, which does not keep the sum, wrote last.
func TestLostCommit(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead uint64 // of the last commit
		want  error
	}{
		{"lost", 0, ErrDamaged},
		{"by an earlier version", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filledDir(t, nil, 50)
			db, err := badger.OpenManaged(badgerOptions(open(t, Config{Dir: t.TempDir()}).config).WithDir(dir).
				WithValueDir(dir))
			if err != nil {
				t.Fatal(err)
			}
			txn := db.NewTransactionAt(math.MaxUint64, true)
			err = errors.Join(txn.Delete(addressKey("u7@corp.example")), txn.CommitAt(db.MaxVersion()+c.ahead, nil),
				db.Close())
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), Config{Dir: dir})
			if !errors.Is(err, c.want) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			defer s.Close()
			for _, dir := range []string{"corp", "lab"} {
				if s.Directory(dir).Doubt == "" {
					t.Errorf("directory %s is not in doubt", dir)
				}
			}
		})
	}
}

// TestNoDoubtAfterDrop: a directory that is dropped takes its doubt along.
func TestNoDoubtAfterDrop(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "")
	pass(t, s, "lab", Full, start, "", object(t, 1, "a@x.test"))
	s.doubt("older state", nil)
	if dropped, err := s.Drop("corp"); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	s = reopen(t, s)
	if s.Directory("lab").Doubt == "" {
		t.Error("the doubt about another directory is gone")
	}
	pass(t, s, "lab", Full, start.Add(time.Minute), "", object(t, 1, "a@x.test"))
	if value, err := s.get([]byte(keyDoubt)); value != nil || err != nil {
		t.Errorf("a doubt is left: %x, %v", value, err)
	}
}
