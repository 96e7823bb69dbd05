package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
)

func TestFleetAlarms(t *testing.T) {
	equal, differs := true, false
	follow := func(held int64, s control.StreamStatus) control.Status {
		s.Hub, s.HubVersion = "hub1", "1.2.4"
		return control.Status{Directories: []control.DirectoryStatus{{Name: "own"},
			{Name: "corp", HeldRemovals: held, Stream: &s}}}
	}
	older := func(since time.Duration) control.Status {
		s := follow(0, control.StreamStatus{NotNewer: true})
		s.Directories[1].FailingSince = before(since)
		return s
	}
	publish := func(p control.PublishStatus) control.Status {
		p.Directory = "corp"
		return control.Status{Publish: []control.PublishStatus{p}}
	}
	const engineRemedy = "; hubs and edges cannot connect afterwards; replace the files of nats.tls, or without " +
		"nats.tls remove ca.crt and ca.key from nats.dir, restart, and enrol all hosts again"
	const linkRemedy = "; this host cannot connect afterwards; get a new enrolment file with \"rcpt-milter edge " +
		"add\", or renew the files of tls"
	valid := func(left time.Duration) control.LinkStatus {
		return control.LinkStatus{CertificateExpires: control.Time{Time: noon.Add(left)}}
	}
	host := func(change func(*control.EngineStatus)) control.Status {
		e := control.EngineStatus{Running: true, Ready: true, Disk: 89 << 20, MaxDisk: 100 << 20,
			Expires: control.Time{Time: noon.Add(certificateWarning)}}
		change(&e)
		return control.Status{Engine: &e}
	}
	for _, c := range []struct {
		name string
		s    control.Status
		want []string
	}{
		{"no fleet", control.Status{}, nil},
		{"an edge that is equal", follow(0, control.StreamStatus{DigestOK: &equal}), nil},
		{"an edge that was not compared", follow(0, control.StreamStatus{}), nil},
		{"an edge that differs", follow(0, control.StreamStatus{DigestOK: &differs}),
			[]string{"directory corp differs from what hub hub1 has published; unknown recipients are deferred " +
				"until a full pass repairs it"}},
		{"an edge that differs by held removals", follow(1, control.StreamStatus{DigestOK: &differs}), nil},
		{"an edge that cannot read messages", follow(0, control.StreamStatus{Unreadable: 2}),
			[]string{"2 objects of directory corp cannot be read from the stream and keep their addresses; update " +
				"this daemon to the version of the hub (1.2.4)"}},
		{"an edge whose name is not its own", follow(0, control.StreamStatus{SharedName: "mx1"}),
			[]string{"another host reports directory corp as mx1 too, so the hub shows only one of them; enrol each " +
				"edge under a name of its own, or give the hosts different names"}},
		{"an edge that waits for a hub", older(publishAlarmAfter - time.Second), nil},
		{"an edge with the backup of a stream", older(publishAlarmAfter),
			[]string{"the engine shows directory corp as it was before, as after the restore of a backup, so this " +
				"edge keeps what it has; start a hub, or run \"rcpt-milter sync --full\" here to follow the engine " +
				"all the same"}},
		{"a hub that publishes", publish(control.PublishStatus{Leading: true}), nil},
		{"a hub that has just failed", publish(control.PublishStatus{LastError: "full",
			FailingSince: before(publishAlarmAfter - time.Second)}), nil},
		{"a hub that fails", publish(control.PublishStatus{LastError: "full", FailingSince: before(publishAlarmAfter)}),
			[]string{"directory corp is not published to the edges: full"}},
		{"a hub that cannot read reports", publish(control.PublishStatus{EdgesError: "no answer"}),
			[]string{"the reports of the edges of directory corp cannot be read, so fleet status shows old ones: no " +
				"answer"}},
		{"a good engine", host(func(*control.EngineStatus) {}), nil},
		{"an engine that does not run",
			host(func(e *control.EngineStatus) { e.Running, e.LastError = false, "port in use" }),
			[]string{"the engine of this daemon does not run: port in use"}},
		{"an engine that is not ready", host(func(e *control.EngineStatus) { e.Ready, e.LastError = false, "starts" }),
			[]string{"the engine of this daemon is not ready: starts"}},
		{"an engine that cannot write", host(func(e *control.EngineStatus) {
			e.Ready, e.Nodes, e.WriteError = false, 3, "no space left on device"
		}), []string{"the engine cannot write its streams, so edges get no changes: no space left on device; " +
			"check nats.dir and the space there; the engine then goes on by itself within minutes"}},
		{"an engine without a quorum", host(func(e *control.EngineStatus) { e.Ready, e.Nodes = false, 3 }),
			[]string{"the engine has no quorum: it is connected to 0 of 2 other nodes"}},
		{"a certificate that expires", host(func(e *control.EngineStatus) {
			e.Expires = control.Time{Time: noon.Add(certificateWarning - time.Second)}
		}), []string{"a certificate of the engine expires on " +
			noon.Add(certificateWarning-time.Second).Format(time.DateOnly) + engineRemedy}},
		{"a certificate that has expired", host(func(e *control.EngineStatus) { e.Expires = control.Time{Time: noon} }),
			[]string{"a certificate of the engine expired on " + noon.Format(time.DateOnly) + engineRemedy}},
		{"an edge whose certificate is good", follow(0, control.StreamStatus{Link: valid(certificateWarning)}), nil},
		{"an edge whose certificate expires",
			follow(0, control.StreamStatus{Link: valid(certificateWarning - time.Second)}),
			[]string{"a certificate for the stream of directory corp expires on " +
				noon.Add(certificateWarning-time.Second).Format(time.DateOnly) + linkRemedy}},
		{"an edge whose certificate has expired", follow(0, control.StreamStatus{Link: valid(-time.Hour)}),
			[]string{"a certificate for the stream of directory corp expired on " +
				noon.Add(-time.Hour).Format(time.DateOnly) + linkRemedy}},
		{"a hub whose certificate has expired", publish(control.PublishStatus{Link: valid(-time.Hour)}),
			[]string{"a certificate for the stream of directory corp expired on " +
				noon.Add(-time.Hour).Format(time.DateOnly) + linkRemedy}},
		{"an edge with an object that is too large", follow(0, control.StreamStatus{DigestOK: &equal, TooLarge: 2}),
			[]string{"2 objects of directory corp have more addresses than a message can hold; unknown recipients " +
				"are deferred until each object is split into several in Active Directory; the log of hub hub1 " +
				"names them"}},
		{"a hub with an object that is too large", publish(control.PublishStatus{TooLarge: 1}),
			[]string{"1 objects of directory corp have more addresses than a message can hold, so all edges defer " +
				"unknown recipients; split each object into several in Active Directory; the log names them"}},
		{"an authority without a key", host(func(e *control.EngineStatus) { e.KeyMissing = true }),
			[]string{"ca.key is missing in nats.dir, so the engine cannot renew its certificate; restore ca.key, or " +
				"remove ca.crt too, restart, and enrol all hosts again"}},
		{"an edge that floods", host(func(e *control.EngineStatus) { e.Flooding = []string{"mx1", "mx2"} }),
			[]string{"the engine keeps edges out for a minute, because they sent far too much: mx1, mx2; if one " +
				"does it again, remove it with \"rcpt-milter edge remove\""}},
		{"an unknown expiry", host(func(e *control.EngineStatus) { e.Expires = control.Time{} }), nil},
		{"a full disk", host(func(e *control.EngineStatus) { e.Disk = 90 << 20 }),
			[]string{"the engine uses 90 of 100 MiB of disk; raise nats.max_disk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, fleetAlarms(c.s, noon)); d != "" {
				t.Errorf("alarms (-want +got):\n%s", d)
			}
		})
	}
}
