package main

import (
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// TestDaemonLogsStates: passes and time both lead to lines, and a reload to none. The limit is
// short only while no pass can end, so a slow machine does not make the index late before.
func TestDaemonLogsStates(t *testing.T) {
	r := newRig(t, "late_after: 20m")
	r.server.Down()
	d := r.serve()
	await := func(line string) {
		t.Helper()
		for until := time.Now().Add(time.Minute); !strings.Contains(d.log.String(), line); {
			if time.Now().After(until) {
				t.Fatalf("no %q in\n%s", line, d.log)
			}
		}
	}
	await(`msg="directory state changed" directory=corp state=not_ready`)
	await(`msg="index state changed" state=not_ready`)
	if err := r.server.Up(); err != nil {
		t.Fatal(err)
	}
	await(`msg="directory state changed" directory=corp state=fresh was=not_ready`)
	await(`msg="index state changed" state=fresh was=not_ready`)
	before := strings.Count(d.log.String(), "state changed")
	r.edit("poll: 100ms", "poll: 99ms")
	r.want(exitOK, "reload")
	r.want(exitOK, "sync", "--wait")
	if got := strings.Count(d.log.String(), "state changed"); got != before {
		t.Errorf("%d lines after a reload, %d before\n%s", got, before, d.log)
	}
	r.server.SetFaults(adsim.Faults{SilentSearch: true}) // no pass ends
	r.edit("late_after: 20m", "late_after: 1s")
	r.want(exitOK, "reload")
	await(`msg="directory state changed" directory=corp state=late was=fresh`)
	await(`msg="index state changed" state=late was=fresh`)
}
