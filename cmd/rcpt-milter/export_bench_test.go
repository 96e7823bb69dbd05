package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/store"
)

var addressesFlag = flag.Int("addresses", 20_000, "how many addresses the index of BenchmarkExport has")

// BenchmarkExport writes the list of recipients of a daemon, in each format, and asks the
// daemon other things meanwhile. Beside the time it tells what the command and the daemon
// take of memory at most, the daemon beyond what it had before, and how long status and
// lookup took at most. docs/testing.md has the commands.
func BenchmarkExport(b *testing.B) {
	r := newRig(b)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	d.stop()
	r.server.Down() // it does not have the addresses of the index
	r.fill(*addressesFlag)
	p := r.spawn().ready()
	p.verified()
	for _, format := range []string{"postmap", "text", "json"} {
		b.Run(format, func(b *testing.B) {
			output := filepath.Join(r.dir, "recipients")
			for b.Loop() {
				b.StopTimer()
				before, peak := p.memory(), 0.0
				b.StartTimer()
				export := exec.Command(os.Args[0], "export", "--format", format, "--output", output, "--config",
					r.config)
				export.Env = append(os.Environ(), asDaemon+"=1")
				if err := export.Start(); err != nil {
					b.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- export.Wait() }()
				most := 0.0 // not as rusage has it: that begins with what this process has
				slowest, err := r.askUntil(ended, func() {
					most, peak = max(most, inStatus(export.Process.Pid, "VmHWM")), max(peak, p.memory())
				})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				info, err := os.Stat(output)
				if err != nil || info.Size() < int64(*addressesFlag)*20 {
					b.Fatalf("the list is too short: %v, %v", info, err)
				}
				b.ReportMetric(most, "MiB-command")
				b.ReportMetric(before, "MiB-daemon-before")
				b.ReportMetric(peak, "MiB-daemon-peak")
				b.ReportMetric(slowest.Seconds()*1000, "ms-slowest-answer")
				b.StartTimer()
			}
		})
	}
}

// fill gives the index so many addresses, two to an object, as a pass would.
func (r *rig) fill(addresses int) {
	r.t.Helper()
	c, err := config.Load(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Config{Dir: c.Store.Dir, MinFree: c.Store.MinFree})
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	stored := s.Directory("corp")
	pass, err := s.Begin("corp", store.Incremental, store.Origin{Controller: "dc1.corp.example", Started: time.Now()})
	if err != nil {
		r.t.Fatal(err)
	}
	var batch []store.Object
	for i := range addresses / 2 {
		o := store.Object{Class: "user", DN: fmt.Sprintf("CN=user%07d,CN=Users,%s", i, base), USN: uint64(i)}
		binary.BigEndian.PutUint64(o.GUID[:], uint64(i)+1)
		for _, form := range []string{"user%07d@corp.example", "first.last%07d@corp.example"} {
			a, err := address.Parse(fmt.Sprintf(form, i))
			if err != nil {
				r.t.Fatal(err)
			}
			o.Addresses = append(o.Addresses, store.Owned{Address: a, Attribute: "proxyAddresses"})
		}
		if batch = append(batch, o); len(batch) < 1000 && i < addresses/2-1 {
			continue
		}
		if _, err := pass.Apply(batch); err != nil {
			r.t.Fatal(err)
		}
		batch = batch[:0]
	}
	if _, err := pass.Commit(store.Outcome{Cursor: stored.Cursor, Fingerprint: stored.Fingerprint,
		Ended: time.Now()}); err != nil {
		r.t.Fatal(err)
	}
}

// askUntil asks the daemon for its status and about an address until the command has
// ended, and gives the longest time that one answer took.
func (r *rig) askUntil(ended <-chan error, meanwhile func()) (slowest time.Duration, err error) {
	client, err := (&app{configPath: r.config}).client()
	if err != nil {
		return 0, err
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, ask := range []func() error{
			func() error { _, err := client.Status(r.t.Context()); return err },
			func() error {
				answer, err := client.Lookup(r.t.Context(), control.LookupQuery{Address: "jane@corp.example"})
				if err == nil && answer.Verdict != "known" {
					err = fmt.Errorf("jane is %s", answer.Verdict)
				}
				return err
			},
		} {
			start := time.Now()
			if err := ask(); err != nil {
				return 0, err
			}
			slowest = max(slowest, time.Since(start))
		}
		select {
		case err := <-ended:
			return slowest, err
		case <-ticker.C:
			meanwhile()
		}
	}
}

// verified waits until the daemon has read its store, which it does as it begins.
func (p *process) verified() {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	start, peak := time.Now(), 0.0
	for range ticker.C {
		peak = max(peak, p.memory())
		if strings.Contains(p.log.String(), "store verified") {
			p.r.t.Logf("verified in %v, with %.0f MiB at most", time.Since(start).Round(time.Second/10), peak)
			return
		}
	}
}

// memory returns the private memory of a process in MiB. Mapped files of the store do not
// count, because the kernel can reclaim them.
func (p *process) memory() float64 { return inStatus(p.cmd.Process.Pid, "RssAnon") }

// inStatus returns a size from the status of a process in the kernel, in MiB; 0 if the kernel
// does not report it.
func inStatus(pid int, field string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return float64(kib) / 1024
}
