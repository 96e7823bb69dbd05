package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rcpt-milter/address"
)

var verifications = flag.Int("verifications", 8,
	"how many times a store is verified beside writers, and with a flipped bit")

// employee returns an object with two addresses of its own and one shared address.
func employee(t testing.TB, i int) Object {
	o := object(t, 0, fmt.Sprintf("first.last%d@corp.example", i), fmt.Sprintf("u%d@corp.example", i),
		fmt.Sprintf("team%d@corp.example", i/100))
	o.GUID = GUID{1, byte(i >> 16), byte(i >> 8), byte(i)}
	return o
}

func employees(t testing.TB, from, to int) (all []Object) {
	for i := from; i < to; i++ {
		all = append(all, employee(t, i))
	}
	return all
}

// TestVerifyBesideWriters: a verification never finds a sound store damaged, whatever is written
// meanwhile: the first full pass of a directory, then additions, removals and sweeps of two.
func TestVerifyBesideWriters(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, dir := range []string{"corp", "lab"} {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := churn(t, s, dir, n); err != nil {
					t.Errorf("pass %d of %s: %v", n, dir, err)
					return
				}
			}
		})
	}
	for n := range *verifications {
		if err := s.Verify(); err != nil {
			t.Errorf("verification %d of a sound store: %v", n, err)
			break
		}
	}
	cancel()
	writers.Wait()
	if err := s.Verify(); err != nil {
		t.Errorf("verification at rest: %v", err)
	}
}

// churn runs one pass that changes what the previous one wrote.
func churn(t *testing.T, s *Store, dir string, n int) error {
	p, err := s.Begin(dir, Kind(1-n%2), Origin{Controller: "dc1", Started: start})
	if err != nil {
		return err
	}
	defer p.Abort()
	for page := range 6 {
		objects := employees(t, page*300, page*300+300-n%7)
		for i := range objects {
			if (i+n)%3 == 0 {
				objects[i].Addresses = objects[i].Addresses[n%2:]
			}
		}
		if _, err := p.Apply(objects); err != nil {
			return err
		}
	}
	if n%2 == 0 {
		if err := p.Sweep(); err != nil {
			return err
		}
	}
	_, err = p.Commit(Outcome{Cursor: []byte("x"), Ended: start})
	return err
}

// TestReadersSeeOneCommit: an answer from several keys is consistent, although an address moves
// from one object to another all the time.
func TestReadersSeeOneCommit(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "moves@x.test"), object(t, 2))
	moves := mustParse(t, "moves@x.test")
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			p, err := s.Begin("corp", Incremental, Origin{Started: start})
			if err == nil {
				_, err = p.Apply([]Object{object(t, byte(1+i%2)), object(t, byte(2-i%2), "moves@x.test")})
			}
			if err == nil {
				_, err = p.Commit(Outcome{Cursor: []byte("x"), Ended: start})
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		d, err := s.Describe(moves)
		if err != nil || len(d.Owners) == 0 || !d.Removed.IsZero() {
			t.Fatalf("described as %+v, %v", d, err)
		}
		for _, o := range d.Owners {
			if o.Attribute == "" {
				t.Fatalf("an owner without a record: %+v", d)
			}
		}
		past, err := s.At(moves, start)
		if err != nil || !past.Known {
			t.Fatalf("at the start: %+v, %v", past, err)
		}
		seen := 0
		err = s.Owners("corp", func(_ address.Address, _ GUID, recorded bool) error {
			if seen++; !recorded {
				return errors.New("an owner whose record does not have the address")
			}
			return nil
		})
		if err != nil || seen == 0 {
			t.Fatalf("%d owners: %v", seen, err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

// TestDoubtEnds: after a wrong recount, nothing is written and no recipient is rejected until a
// later verification succeeds. Damage of a file does not end that way.
func TestDoubtEnds(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	never := mustParse(t, "never@x.test")
	want := func(what string, damaged bool) {
		t.Helper()
		if _, err := s.Lookup(never); errors.Is(err, ErrDamaged) != damaged {
			t.Errorf("%s: a miss gives %v", what, err)
		}
		if err := s.PutRefusals(NewRefusals(start)); errors.Is(err, ErrDamaged) != damaged {
			t.Errorf("%s: writing gives %v", what, err)
		}
	}
	s.markSuspected(errors.New("counted otherwise"))
	want("in doubt", true)
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	want("verified again", false)
	s.markSuspected(errors.New("counted otherwise"))
	s.markDamaged(errors.New("checksum mismatch"))
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	want("a damaged file", true)
}

// filledDir returns the directory of a closed store with the people of two directories, in
// several tables and with several versions of the records.
func filledDir(t *testing.T, key []byte, n int) string {
	s := open(t, Config{Dir: t.TempDir(), Key: key})
	pass(t, s, "corp", Full, start, "", employees(t, 0, n)...)
	s = reopen(t, s)
	changed := employees(t, 0, n)
	for i := range changed {
		changed[i].Addresses = changed[i].Addresses[i%3:]
	}
	pass(t, s, "corp", Full, start, "", changed...)
	s = reopen(t, s)
	pass(t, s, "corp", Full, start, "", employees(t, 0, n)...)
	pass(t, s, "lab", Full, start, "", employees(t, n-10, n+10)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.config.Dir
}

// flip changes a random bit of one of the files.
func flip(t *testing.T, r *rand.Rand, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	path := files[r.IntN(len(files))]
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return flipAt(t, path, r.Int64N(info.Size()), r.IntN(8))
}

func flipAt(t *testing.T, path string, at int64, bit int) string {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("bit %d of byte %d of %s", bit, at, filepath.Base(path))
}

// TestFlippedBits: one bit of a table changes while the store is open. No known address becomes
// unknown without an error, before, during and after a pass, and the next verification finds the
// damage.
func TestFlippedBits(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey(32)} {
		t.Run(name, func(t *testing.T) {
			const n = 300
			dir := filledDir(t, key, n)
			for seed := range uint64(*verifications) {
				flipped(t, dir, key, n, seed)
			}
		})
	}
}

func flipped(t *testing.T, from string, key []byte, n int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	// The cache must not keep blocks that were sound when they were read.
	s := open(t, Config{Dir: dir, Key: key, blockCache: 1})
	defer s.Close()
	what := fmt.Sprintf("seed %d: %s", seed, flip(t, r, dir, "*.sst"))
	known := map[string]bool{}
	for _, o := range employees(t, 0, n+10) {
		for _, a := range o.Addresses {
			known[a.Address.String()] = true
		}
	}
	wantNoneLost(t, s, known, what)
	read := employees(t, r.IntN(n/2), n/2+r.IntN(n/2))
	for i := range read {
		if i%5 == 0 { // leaves, but for what it shares
			delete(known, read[i].Addresses[0].Address.String())
			delete(known, read[i].Addresses[1].Address.String())
			read[i].Addresses = nil
		}
	}
	p, err := s.Begin("corp", Incremental, Origin{Controller: "dc1.corp.example", Started: start})
	if err == nil {
		var c Changes
		if c, err = p.Apply(read); err == nil && c.Added > 0 {
			t.Errorf("%s: %d addresses are taken for new", what, c.Added)
		}
		if err == nil {
			_, err = p.Commit(Outcome{Cursor: []byte("x"), Ended: start})
		}
		p.Abort()
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: pass: %v", what, err)
	}
	wantNoneLost(t, s, known, what)
	if err := s.Verify(); !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: verification: %v", what, err)
	}
	wantNoneLost(t, s, known, what)
}

func wantNoneLost(t *testing.T, s *Store, known map[string]bool, what string) {
	t.Helper()
	for a := range known {
		got, err := s.Lookup(mustParse(t, a))
		if err == nil && (!got.Known || got.InternalOnly) {
			t.Errorf("%s: %s is taken for %+v", what, a, got)
			return
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %s: %v", what, a, err)
		}
	}
}
