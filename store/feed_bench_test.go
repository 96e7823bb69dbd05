package store

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkPassWithFeed measures a pass that changes 100 objects, with the feed off, on, and on
// with everything published after each pass.
func BenchmarkPassWithFeed(b *testing.B) {
	for _, mode := range []string{"off", "on", "published"} {
		b.Run(mode, func(b *testing.B) {
			s, _ := filled(b, 20_000)
			if mode != "off" {
				switchFeed(b, s, "corp", true)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				changePass(b, s, n, 100)
				if mode == "published" {
					follower{}.follow(b, s, "corp", 1000, 3, nil)
				}
			}
		})
	}
}

// changePass gives some objects a new address in place of another one.
func changePass(b *testing.B, s *Store, n, objects int) {
	at := start.Add(time.Duration(n) * time.Second)
	p, err := s.Begin("corp", Incremental, Origin{Started: at})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Abort()
	var page []Object
	for i := range objects {
		o := object(b, 0, fmt.Sprintf("first.last%d@corp.example", i), fmt.Sprintf("u%d-%d@corp.example", i, n))
		o.GUID = GUID{byte(i >> 16), byte(i >> 8), byte(i)}
		page = append(page, o)
	}
	if _, err := p.Apply(page); err != nil {
		b.Fatal(err)
	}
	if _, err := p.Commit(Outcome{Cursor: []byte("x"), Ended: at}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDrainOutbox measures how many objects a second are read from the outbox and removed.
func BenchmarkDrainOutbox(b *testing.B) {
	const objects = 50_000
	for b.Loop() {
		b.StopTimer()
		s := open(b, Config{Dir: b.TempDir()})
		switchFeed(b, s, "corp", true)
		fillScale(b, s, 2*objects)
		f := follower{}
		b.StartTimer()
		if !f.follow(b, s, "corp", 1000, 100, nil) || len(f) != objects {
			b.Fatal(len(f))
		}
		s.Close()
	}
	b.ReportMetric(float64(objects*b.N)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkFeedAll measures how many objects a second FeedAll visits.
func BenchmarkFeedAll(b *testing.B) {
	const objects = 50_000
	s := open(b, Config{Dir: b.TempDir()})
	fillScale(b, s, 2*objects)
	for b.Loop() {
		n := 0
		if err := s.FeedAll("corp", func(FeedObject) error { n++; return nil }); err != nil || n != objects {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(objects*b.N)/b.Elapsed().Seconds(), "objects/s")
}
