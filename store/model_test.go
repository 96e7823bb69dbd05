package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"rcpt-milter/address"
)

// TestRandomPasses compares the store with a map after many random passes of two directories:
// full and incremental, complete, aborted and held. Addresses become internal-only and open
// again.
func TestRandomPasses(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			s := open(t, Config{Dir: t.TempDir(), inline: int(seed % 2)}) // with 1, two addresses make parts
			m := model{owns: map[ownership]bool{}}
			dirs := []*truth{{name: "corp"}, {name: "other"}}
			for i := range 120 {
				d := dirs[r.IntN(len(dirs))]
				d.change(r)
				m.pass(t, s, d, r, start.Add(time.Duration(i)*time.Minute))
				wantKnown(t, s, m.known()...)
				if i%40 == 39 {
					s = reopen(t, s)
				}
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

const objects, pool = 12, 30

// truth is one directory: which of a pool of addresses each object has now, whether they are
// internal-only, and which objects changed since the last committed pass.
type truth struct {
	name    string
	read    bool
	has     [objects]map[int]bool
	changed map[int]bool
}

func (d *truth) change(r *rand.Rand) {
	if d.changed == nil {
		d.changed = map[int]bool{}
	}
	for range r.IntN(6) {
		o := r.IntN(objects)
		d.changed[o] = true
		if r.IntN(4) == 0 {
			d.has[o] = nil
			continue
		}
		if d.has[o] == nil {
			d.has[o] = map[int]bool{}
		}
		a := r.IntN(pool)
		if _, there := d.has[o][a]; there && r.IntN(2) == 0 {
			delete(d.has[o], a)
		} else {
			d.has[o][a] = r.IntN(3) == 0
		}
	}
}

type ownership struct {
	dir     string
	object  int
	address int
}

// model is what the store should hold: the owners of each address, and whether they are
// internal-only.
type model struct{ owns map[ownership]bool }

func (m *model) known() []string {
	internalOnly := map[string]bool{}
	for o, is := range m.owns {
		a := fmt.Sprintf("a%d@x.test", o.address)
		if was, there := internalOnly[a]; there {
			is = is && was
		}
		internalOnly[a] = is
	}
	var list []string
	for a, is := range internalOnly {
		if is {
			a = "!" + a
		}
		list = append(list, a)
	}
	return list
}

func (m *model) pass(t *testing.T, s *Store, d *truth, r *rand.Rand, at time.Time) {
	kind := Incremental
	if !d.read || r.IntN(3) == 0 {
		kind = Full
	}
	p, err := s.Begin(d.name, kind, Origin{Started: at})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	for _, o := range r.Perm(objects) {
		if kind == Incremental && !d.changed[o] || kind == Full && d.has[o] == nil {
			continue
		}
		m.read(t, p, d, o)
		if r.IntN(40) == 0 {
			return // the connection broke
		}
	}
	if kind == Full {
		if err := p.Sweep(); err != nil {
			t.Fatal(err)
		}
	}
	if r.IntN(10) == 0 {
		return // crashed before the decision
	}
	hold := ""
	if r.IntN(4) == 0 {
		hold = "held"
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at, Hold: hold}); err != nil {
		t.Fatal(err)
	}
	d.read, d.changed = true, nil
	m.commit(d, hold != "")
	if err := s.Recount(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) read(t *testing.T, p *Pass, d *truth, o int) {
	read := Object{GUID: GUID{byte(o + 1)}, DN: "CN=x"}
	for a, internalOnly := range d.has[o] {
		text, key := fmt.Sprintf("a%d@x.test", a), ownership{d.name, o, a}
		read.Addresses = append(read.Addresses, Owned{Address: mustParse(t, text), InternalOnly: internalOnly})
		was, owned := m.owns[key]
		m.owns[key] = internalOnly && (was || !owned) // an open address stays open until the commit
	}
	if _, err := p.Apply([]Object{read}); err != nil {
		t.Fatal(err)
	}
}

// commit removes or holds everything that the directory does not have or made internal-only. An
// object that an incremental pass did not read has not changed, so the truth holds for all
// objects.
func (m *model) commit(d *truth, hold bool) {
	for o := range m.owns {
		if o.dir != d.name || hold {
			continue
		}
		if internalOnly, there := d.has[o.object][o.address]; there {
			m.owns[o] = internalOnly
		} else {
			delete(m.owns, o)
		}
	}
}

// TestReadersBesideWriters: an address that exists before and after every pass is known at every
// moment.
func TestReadersBesideWriters(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	pass(t, s, "corp", Full, start, "", object(t, 1, "stays@x.test"), object(t, 2))
	stays, never := mustParse(t, "stays@x.test"), mustParse(t, "never@x.test")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := s.Lookup(stays); err != nil || !got.Known {
					t.Errorf("an address that stays: %+v, %v", got, err)
					return
				}
				if got, err := s.Lookup(never); err != nil || got.Known {
					t.Errorf("an address that never was: %+v, %v", got, err)
					return
				}
				s.Totals()
				s.Directory("corp")
			}
		})
	}
	for i := range 30 { // the address moves between two objects
		from, to := byte(1+i%2), byte(2-i%2)
		pass(t, s, "corp", Kind(i%2), start, "", object(t, from),
			object(t, to, "stays@x.test", fmt.Sprintf("n%d@x.test", i)))
	}
	close(stop)
	readers.Wait()
}

// filled returns a store of n objects with two addresses each.
func filled(b testing.TB, n int) (*Store, []address.Address) {
	s := open(b, Config{Dir: b.TempDir()})
	p, err := s.Begin("corp", Full, Origin{Started: start})
	if err != nil {
		b.Fatal(err)
	}
	var asked []address.Address
	for i := 0; i < n; {
		var page []Object
		for ; len(page) < 1000 && i < n; i++ {
			o := object(b, 0, fmt.Sprintf("first.last%d@corp.example", i), fmt.Sprintf("u%d@corp.example", i))
			o.GUID = GUID{byte(i >> 16), byte(i >> 8), byte(i)}
			page = append(page, o)
			asked = append(asked, o.Addresses[0].Address)
		}
		if _, err := p.Apply(page); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: start}); err != nil {
		b.Fatal(err)
	}
	return s, asked
}

func BenchmarkLookup(b *testing.B) {
	s, asked := filled(b, 50_000)
	never := mustParse(b, "never@corp.example")
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if got, err := s.Lookup(asked[i*7919%len(asked)]); err != nil || !got.Known {
				b.Fatal(got, err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := s.Lookup(never); err != nil || got.Known {
				b.Fatal(got, err)
			}
		}
	})
}

func BenchmarkFirstFullPass(b *testing.B) {
	for b.Loop() {
		s, asked := filled(b, 20_000)
		b.ReportMetric(float64(len(asked))*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
		s.Close()
	}
}
