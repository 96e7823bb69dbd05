package main

import (
	"log/slog"
	"testing"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

func TestShared(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	type waits map[string]time.Duration
	f := newFollower(s, nil, slog.New(slog.DiscardHandler))
	corp := config.Directory{Name: "corp", ReplicationLag: 3 * time.Hour}
	lab := config.Directory{Name: "lab", ReplicationLag: 5 * time.Hour, Domains: []string{"lab.example", ".sub.example"}}
	alone := &config.Config{Directories: []config.Directory{corp}}
	pair := &config.Config{Directories: []config.Directory{corp, lab}}
	check := func(what string, c *config.Config, d config.Directory, want waits) {
		t.Helper()
		shared := f.shared(c, d.Name, d.ReplicationLag)
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
	check("another one was taken out", alone, corp, waits{"": 3 * time.Hour, "corp.example": 3 * time.Hour})
	if dropped, err := s.Drop("old"); !dropped || err != nil {
		t.Fatal(dropped, err)
	}
	check("it is forgotten", alone, corp, waits{"": 0, "corp.example": 0})
}

// TestSharedDomains: an alias that goes waits while another directory may have it; a reload
// that gives each its own mail domains ends that for the next one.
func TestSharedDomains(t *testing.T) {
	r := newRig(t)
	_, lines := r.withLab()
	ann := r.addUser("ann", "smtp:ann@corp.example", "smtp:ann2@corp.example", "smtp:ann3@corp.example")
	d := r.serve()
	defer d.stop()
	r.want(exitOK, "sync", "--wait")
	keep := func(addresses ...string) {
		t.Helper()
		if err := r.ad.Modify(ann, adsim.Set("proxyAddresses", addresses...)); err != nil {
			t.Fatal(err)
		}
		r.want(exitOK, "sync", "--wait")
	}
	keep("smtp:ann@corp.example", "smtp:ann3@corp.example")
	r.want(exitOK, "lookup", "ann2@corp.example")
	got := rows[control.HeldRemoval](r, exitOK, "removals")
	if len(got) != 1 || got[0].WaitsFor != control.WaitsReplication || got[0].NotBefore.IsZero() {
		t.Errorf("removals gives %+v", got)
	}
	r.edit(lines, lines+"    domains: [lab.example]\n")
	r.want(exitOK, "reload")
	keep("smtp:ann@corp.example")
	r.want(exitFailure, "lookup", "ann3@corp.example")
	r.want(exitOK, "lookup", "ann2@corp.example")
}
