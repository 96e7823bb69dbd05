package daemon

import (
	"fmt"
	"strings"
	"time"

	"rcpt-milter/control"
)

// publishAlarmAfter is how long a hub may fail to publish, or an edge may wait for a hub, before that raises an
// alarm. A change of the hub, or a restart of the engine, takes less.
const publishAlarmAfter = time.Minute

// fleetAlarms returns the conditions of the fleet that need repair, one sentence each. It omits the edges of a
// hub, which the status lists in a separate table.
func fleetAlarms(s control.Status, now time.Time) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, d := range s.Directories {
		if d.Stream == nil {
			continue
		}
		if ok := d.Stream.DigestOK; ok != nil && !*ok && d.HeldRemovals == 0 {
			add("directory %s differs from what hub %s has published; unknown recipients are deferred until a full "+
				"pass repairs it", d.Name, d.Stream.Hub)
		}
		if name := d.Stream.SharedName; name != "" {
			add("another host reports directory %s as %s too, so the hub shows only one of them; enrol each edge "+
				"under a name of its own, or give the hosts different names", d.Name, name)
		}
		if d.Stream.NotNewer && now.Sub(d.FailingSince.Time) >= publishAlarmAfter {
			add("the engine shows directory %s as it was before, as after the restore of a backup, so this edge "+
				"keeps what it has; start a hub, or run \"rcpt-milter sync --full\" here to follow the engine all "+
				"the same", d.Name)
		}
		all = append(all, linkAlarms(d.Name, d.Stream.Link, now)...)
		if n := d.Stream.TooLarge; n > 0 {
			add("%d objects of directory %s have more addresses than a message can hold; unknown recipients are "+
				"deferred until each object is split into several in Active Directory; the log of hub %s names them", n,
				d.Name, d.Stream.Hub)
		}
		if n := d.Stream.Unreadable; n > 0 {
			add("%d objects of directory %s cannot be read from the stream and keep their addresses; update this "+
				"daemon to the version of the hub (%s)", n, d.Name, d.Stream.HubVersion)
		}
	}
	for _, p := range s.Publish {
		all = append(all, linkAlarms(p.Directory, p.Link, now)...)
		if n := p.TooLarge; n > 0 {
			add("%d objects of directory %s have more addresses than a message can hold, so all edges defer unknown "+
				"recipients; split each object into several in Active Directory; the log names them", n, p.Directory)
		}
		if p.EdgesError != "" {
			add("the reports of the edges of directory %s cannot be read, so fleet status shows old ones: %s",
				p.Directory, p.EdgesError)
		}
		if p.LastError != "" && !p.FailingSince.IsZero() && now.Sub(p.FailingSince.Time) >= publishAlarmAfter {
			add("directory %s is not published to the edges: %s", p.Directory, p.LastError)
		}
	}
	if e := s.Engine; e != nil {
		all = append(all, engineAlarms(*e, now)...)
	}
	return all
}

// diskAlarmPercent is the usage of max_disk, in percent, at which the disk space of an engine raises an alarm.
const diskAlarmPercent = 90

func engineAlarms(e control.EngineStatus, now time.Time) (all []string) {
	switch {
	case !e.Running:
		all = append(all, "the engine of this daemon does not run: "+e.LastError)
	case e.WriteError != "":
		all = append(all, "the engine cannot write its streams, so edges get no changes: "+e.WriteError+
			"; check nats.dir and the space there; the engine then goes on by itself within minutes")
	case !e.Ready && e.Nodes > 0:
		all = append(all, fmt.Sprintf("the engine has no quorum: it is connected to %d of %d other nodes", e.Peers,
			e.Nodes-1))
	case !e.Ready:
		all = append(all, "the engine of this daemon is not ready: "+e.LastError)
	}
	if expiry := expiryText(e.Expires, now); expiry != "" {
		all = append(all, fmt.Sprintf("a certificate of the engine %s; hubs and edges cannot connect afterwards; "+
			"replace the files of nats.tls, or without nats.tls remove ca.crt and ca.key from nats.dir, restart, and "+
			"enrol all hosts again", expiry))
	}
	if e.KeyMissing {
		all = append(all, "ca.key is missing in nats.dir, so the engine cannot renew its certificate; "+
			"restore ca.key, or remove ca.crt too, restart, and enrol all hosts again")
	}
	if len(e.Flooding) > 0 {
		all = append(all, fmt.Sprintf("the engine keeps edges out for a minute, because they sent far too much: %s; "+
			"if one does it again, remove it with \"rcpt-milter edge remove\"", strings.Join(e.Flooding, ", ")))
	}
	if e.MaxDisk > 0 && e.Disk*100 >= e.MaxDisk*diskAlarmPercent {
		all = append(all, fmt.Sprintf("the engine uses %d of %d MiB of disk; raise nats.max_disk", e.Disk>>20,
			e.MaxDisk>>20))
	}
	return all
}

// linkAlarms returns the alarms about the certificates that this host uses for an engine.
func linkAlarms(directory string, l control.LinkStatus, now time.Time) []string {
	expiry := expiryText(l.CertificateExpires, now)
	if expiry == "" {
		return nil
	}
	return []string{fmt.Sprintf("a certificate for the stream of directory %s %s; this host cannot connect "+
		"afterwards; get a new enrolment file with \"rcpt-milter edge add\", or renew the files of tls", directory,
		expiry)}
}

// expiryText returns when a certificate expires or has expired. It returns an empty string if that is not soon.
func expiryText(at control.Time, now time.Time) string {
	switch {
	case at.IsZero() || at.Sub(now) >= certificateWarning:
		return ""
	case at.After(now):
		return "expires on " + at.Format(time.DateOnly)
	}
	return "expired on " + at.Format(time.DateOnly)
}
