package main

import (
	"fmt"
	"testing"
)

// BenchmarkMemory shows what a daemon takes of memory and address space: until its first full pass
// has ended, and after a restart until the store is verified. docs/operations.md has the figures.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		r.edit("poll: 100ms", "poll: 1h")
		for i := range *addressesFlag/2 - 1 { // one user is there
			name := fmt.Sprintf("user%07d", i)
			r.addUser(name, "SMTP:"+name+"@corp.example", "smtp:first.last."+name+"@corp.example")
		}
		b.StartTimer()
		p := r.spawn().ready()
		r.want(exitOK, "sync", "--wait")
		b.StopTimer()
		if n := int(r.status().Addresses); n != *addressesFlag {
			b.Fatalf("%d addresses, want %d", n, *addressesFlag)
		}
		p.reportMemory(b, "first-pass")
		p.stop()
		b.StartTimer()
		p = r.spawn().ready()
		p.verified()
		b.StopTimer()
		p.reportMemory(b, "restart")
		p.stop()
		b.StartTimer()
	}
}

// reportMemory reports sizes of a process: at most, now, now without mapped files, and the address
// space at most.
func (p *process) reportMemory(b *testing.B, when string) {
	for _, field := range []string{"VmHWM", "VmRSS", "RssAnon", "VmPeak"} {
		b.ReportMetric(inStatus(p.cmd.Process.Pid, field), "MiB-"+when+"-"+field)
	}
}
