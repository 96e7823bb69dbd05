package daemon

import (
	"log/slog"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/store"
)

func TestShared(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	type waits map[string]time.Duration
	f := newSyncManager(s, nil, slog.New(slog.DiscardHandler))
	corp := config.Directory{Name: "corp", ReplicationLag: 3 * time.Hour}
	lab := config.Directory{Name: "lab", ReplicationLag: 5 * time.Hour,
		Domains: []string{"lab.example", ".sub.example"}}
	alone := &config.Config{Directories: []config.Directory{corp}}
	pair := &config.Config{Directories: []config.Directory{corp, lab}}
	check := func(what string, c *config.Config, d config.Directory, want waits) {
		t.Helper()
		shared := f.handoverLag(c, d.Name, d.ReplicationLag)
		for domain, wait := range want {
			if got := shared(domain); got != wait {
				t.Errorf("%s, %s: %q is shared for %v, want %v", what, d.Name, domain, got, wait)
			}
		}
	}
	check("one directory", alone, corp, waits{"": 0, "corp.example": 0})
	check("two", pair, corp, waits{"": 5 * time.Hour, "corp.example": 0,
		"lab.example": 5 * time.Hour, "a.sub.example": 5 * time.Hour})
	check("two", pair, lab, waits{"": 5 * time.Hour, "corp.example": 5 * time.Hour, "lab.example": 5 * time.Hour})
	p, err := s.Begin("old", store.Full, store.Origin{Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	check("one that left before the start", alone, corp, waits{"": 3 * time.Hour, "corp.example": 3 * time.Hour})
	if dropped, err := s.Drop("old"); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	check("it is forgotten", alone, corp, waits{"": 0, "corp.example": 0})
	f.current.Store(&directorySet{{nil, corp}, {nil, lab}})
	f.rememberLeft(alone)
	check("it was never read", alone, corp, waits{"": 0, "lab.example": 0})
	if p, err = s.Begin("lab", store.Full, store.Origin{Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	check("one that left", alone, corp, waits{"": 5 * time.Hour, "corp.example": 3 * time.Hour,
		"lab.example": 5 * time.Hour})
	f.rememberLeft(&config.Config{})
	none := &config.Config{}
	if got := f.handoverLag(none, "corp", 0)("lab.example"); got != 0 {
		t.Errorf("a directory that left waits %v for another one", got)
	}
}
