package postfix

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// checkAsked checks that every listener for mail from outside uses the daemon.
func (e *examination) checkAsked() {
	outsiders := e.those(func(l listener) bool { return l.role == outside })
	if len(outsiders) == 0 {
		e.find("no-listener", Problem, "master.cf has no smtpd for mail from outside",
			"The daemon checks recipients only for an smtpd.",
			"if Postfix uses another directory: rcpt-milter doctor --postfix-config DIR")
		return
	}
	missing := func(overridden bool) []listener {
		return e.those(func(l listener) bool {
			return l.role == outside && len(l.ours)+len(l.stray) == 0 && !l.maps && e.overridesMilters(l) == overridden
		})
	}
	if all := missing(false); len(all) > 0 {
		e.notAsked(all, e.addUs("smtpd_milters")...)
	}
	if all := missing(true); len(all) > 0 {
		var fix []string
		if !slices.ContainsFunc(ParseMilters(e.Value(nil, "smtpd_milters")),
			func(m Milter) bool { return e.isOurs(all[0].Service, m) }) {
			fix = e.addUs("smtpd_milters")
		}
		for _, l := range all {
			for _, name := range []string{"smtpd_milters", "receive_override_options"} {
				if _, set := l.Overrides[name]; set && (name == "smtpd_milters" ||
					strings.Contains(l.Overrides[name], "no_milters")) {
					fix = append(fix, e.postconf("-PX", l.String()+"/"+name))
				}
			}
		}
		e.notAsked(all, fix...)
	}
}

func (e *examination) notAsked(all []listener, fix ...string) {
	e.find("milter-missing", Problem, "rcpt-milter is not a milter of "+names(all),
		"Mail for unknown recipients is accepted there and bounces later, often to forged senders.", fix...)
}

// overridesMilters reports whether -o in master.cf sets the milters of a listener.
func (e *examination) overridesMilters(l listener) bool {
	_, milters := l.Overrides["smtpd_milters"]
	if options, own := l.Overrides["receive_override_options"]; own {
		return milters || strings.Contains(options, "no_milters")
	}
	return milters && !strings.Contains(e.Value(nil, "receive_override_options"), "no_milters")
}

// addUs returns the commands that put the daemon before the milters of main.cf.
func (e *examination) addUs(parameter string) []string {
	endpoint := e.endpoint()
	if endpoint == "" {
		return e.moveSocket()
	}
	value := e.entry(endpoint)
	if others := e.Parameters[parameter]; others != "" {
		value += ", " + others
	}
	var fix []string
	if strings.Contains(e.Value(nil, "receive_override_options"), "no_milters") {
		fix = append(fix, e.set("receive_override_options", strings.Join(slices.DeleteFunc(list(e.Value(nil,
			"receive_override_options")),
			func(word string) bool { return word == "no_milters" }), ", ")))
	}
	if slices.ContainsFunc(ParseMilters(e.Value(nil, parameter)),
		func(m Milter) bool { return m.Endpoint == endpoint }) {
		return fix
	}
	return append(fix, e.set(parameter, value))
}

// moveSocket returns how to move the socket into the chroot of smtpd.
func (e *examination) moveSocket() []string {
	return []string{"in config.yaml: listen: unix:" + e.queue() + "/rcpt-milter/milter.sock",
		e.set("smtpd_milters", e.entry("unix:rcpt-milter/milter.sock"))}
}

// without returns a list of milters without the daemon.
func (e *examination) without(s *Service, all []Milter) string {
	var rest []string
	for _, m := range all {
		if !e.isOurs(s, m) && !e.isStray(m) {
			rest = append(rest, m.source)
		}
	}
	return strings.Join(rest, ", ")
}

// beforeOthers returns milters for a listener: an entry for the daemon, and then the others that the listener has.
func (e *examination) beforeOthers(entry string, l listener) string {
	return strings.TrimSuffix(entry+", "+e.without(l.Service, l.all), ", ")
}

// checkElsewhere checks that only listeners for mail from outside use the daemon, and once.
func (e *examination) checkElsewhere() {
	cleanup := &Service{Chroot: "n", Overrides: map[string]string{}}
	local := ParseMilters(e.Value(nil, "non_smtpd_milters"))
	if slices.ContainsFunc(local, func(m Milter) bool { return e.isOurs(cleanup, m) || e.isStray(m) }) {
		e.find("milter-non-smtpd", Problem, "rcpt-milter is in non_smtpd_milters",
			"Mail of local programs, bounces and forwarded mail to unknown recipients would be dropped or deferred.",
			e.set("non_smtpd_milters", e.without(cleanup, local)))
	}
	for _, l := range e.listeners {
		switch {
		case len(l.ours) == 0 || l.role == outside:
		case l.role == submission && e.daemon.ExemptAuthenticated:
		case l.role == submission:
			e.find("milter-submission", Problem, "rcpt-milter is a milter of the submission service "+l.String(),
				"Mail programs report a 451 as a failure, and users may be rejected or deferred.", e.override(l)...)
		default:
			e.find("milter-reinjection", Problem, "rcpt-milter is a milter of "+l.String()+
				", which accepts mail back from a content filter",
				"That mail is already accepted: a rejection causes a bounce, and a 451 fills the queue of the "+
					"filter.", e.override(l)...)
		}
		if len(l.ours) > 1 {
			e.find("milter-twice", Note, l.String()+" has rcpt-milter twice",
				"The second check costs time and changes nothing.",
				e.set("smtpd_milters", e.beforeOthers(l.ours[0].source, l)))
		}
	}
}

// override removes the daemon from the milters of one listener. postconf -P accepts no value
// with white space, so such a value gets a parameter of its own.
func (e *examination) override(l listener) []string {
	rest := e.without(l.Service, l.all)
	if !strings.ContainsAny(rest, " \t") {
		return []string{e.postconf("-P", l.String()+"/smtpd_milters="+rest)}
	}
	if joined := strings.ReplaceAll(rest, ", ", ","); !strings.ContainsAny(joined, " \t") {
		return []string{e.postconf("-P", l.String()+"/smtpd_milters="+joined)}
	}
	return []string{e.set("inside_milters", rest), e.postconf("-P", l.String()+"/smtpd_milters=$inside_milters")}
}

// asked returns the listeners that use the daemon.
func (e *examination) asked() []listener {
	return e.those(func(l listener) bool { return len(l.ours) > 0 })
}

// byValue groups the listeners that use the daemon by a value; an empty value means no finding.
func (e *examination) byValue(value func(listener, Milter) string) map[string][]listener {
	groups := map[string][]listener{}
	for _, l := range e.asked() {
		if found := value(l, l.ours[0]); found != "" {
			groups[found] = append(groups[found], l)
		}
	}
	return groups
}

// optionOf returns the value of an option of a milter, by default that of a parameter.
func (e *examination) optionOf(l listener, m Milter, option, parameter string) string {
	if value, given := m.Options[option]; given {
		return value
	}
	return e.Value(l.Service, parameter)
}

// checkActions checks the default action if the daemon does not answer.
func (e *examination) checkActions() {
	groups := e.byValue(func(l listener, _ Milter) string {
		if action := e.actionOf(l); action != "tempfail" && action != "shutdown" {
			return action
		}
		return ""
	})
	for _, action := range slices.Sorted(maps.Keys(groups)) {
		what := fmt.Sprintf("without the daemon, %s takes milter_default_action %s", names(groups[action]), action)
		why := "Expected tempfail or shutdown."
		switch action {
		case "unset":
			what = "milter_default_action of " + names(groups[action]) + " is not set"
			why = "The default differs between releases (tempfail, shutdown)."
		case "accept", "quarantine":
			if action == "accept" && e.exportDecides() {
				e.find("default-action", Note, what,
					"Postfix then rejects by the exported table in relay_recipient_maps.")
				continue
			}
			why = "During a restart of the daemon mail for unknown recipients is accepted, " +
				"for the rest of each SMTP session."
		case "reject":
			why = "During a restart of the daemon valid mail is rejected permanently."
		}
		e.find("default-action", Problem, what, why, e.withOption(groups[action][0], "default_action=tempfail"))
	}
}

// actionOf returns the default action of a listener that uses the daemon, or "unset".
func (e *examination) actionOf(l listener) string {
	_, given := l.ours[0].Options["default_action"]
	if !given && !e.isSet(l.Service, "milter_default_action") {
		return "unset"
	}
	return e.optionOf(l, l.ours[0], "default_action", "milter_default_action")
}

// withOption returns the command that sets an option of the daemon in smtpd_milters.
func (e *examination) withOption(l listener, option string) string {
	ours := l.ours[0]
	options := maps.Clone(ours.Options)
	name, value, _ := strings.Cut(option, "=")
	options[name] = value
	text := "{ " + ours.Endpoint
	for _, name := range slices.Sorted(maps.Keys(options)) {
		text += ", " + name + "=" + options[name]
	}
	text = e.beforeOthers(text+" }", l)
	if _, overridden := l.Overrides["smtpd_milters"]; overridden {
		return e.set("outside_milters", text) + " && " + e.postconf("-P", l.String()+"/smtpd_milters=$outside_milters")
	}
	return e.set("smtpd_milters", text)
}

// Limits of the timeouts: below them, a moment of load makes Postfix give up for the rest of
// the session; above them, sessions pile up behind a daemon that hangs.
const (
	leastConnect, mostConnect = time.Second, time.Minute
	leastCommand, mostCommand = 3 * time.Second, 2 * time.Minute
)

// checkTimeouts checks that Postfix waits long enough for an answer, but not too long.
func (e *examination) checkTimeouts() {
	for _, c := range []struct {
		option, parameter, good string
		least, most             time.Duration
	}{
		{"connect_timeout", "milter_connect_timeout", "5s", leastConnect, mostConnect},
		{"command_timeout", "milter_command_timeout", "10s", max(leastCommand, e.daemon.ReplyTimeout+time.Second),
			mostCommand},
	} {
		groups := e.byValue(func(l listener, m Milter) string {
			text := e.optionOf(l, m, c.option, c.parameter)
			if wait, ok := parseTime(text); !ok || wait >= c.least && wait <= c.most {
				return ""
			}
			return text
		})
		for _, text := range slices.Sorted(maps.Keys(groups)) {
			why := "After this time it gives up on the daemon for the rest of the SMTP session, " +
				"even if the load was short."
			if wait, _ := parseTime(text); wait > c.most {
				why = "If the daemon hangs, sessions pile up until no smtpd process is left."
			}
			e.find("timeout", Problem, fmt.Sprintf("%s of %s is %s", c.option, names(groups[text]), text), why,
				e.withOption(groups[text][0], c.option+"="+c.good))
		}
	}
}

// checkProtocol checks the protocol version: earlier versions do not send the macros that the
// decision needs.
func (e *examination) checkProtocol() {
	groups := e.byValue(func(l listener, m Milter) string {
		if version := e.optionOf(l, m, "protocol", "milter_protocol"); compareValues(version, "6") < 0 {
			return version
		}
		return ""
	})
	for _, version := range slices.Sorted(maps.Keys(groups)) {
		var fix []string
		for _, l := range groups[version] {
			command := e.setFor(l, "milter_protocol", "6")
			if _, given := l.ours[0].Options["protocol"]; given {
				command = e.withOption(l, "protocol=6")
			}
			if !slices.Contains(fix, command) {
				fix = append(fix, command)
			}
		}
		e.find("protocol", Problem, fmt.Sprintf("milter_protocol of %s is %s", names(groups[version]), version),
			"The daemon needs the macro {rcpt_addr}, which it can request only with version 6.", fix...)
	}
}

// checkConnections checks the number of connections: every smtpd process keeps one.
func (e *examination) checkConnections() {
	sum, unlimited := 0, []listener{}
	for _, l := range e.asked() {
		n := e.processes(l.Service)
		if sum += n; n == 0 {
			unlimited = append(unlimited, l)
		}
	}
	const why = "Connections beyond the limit wait, and so do their SMTP sessions."
	switch possible := e.daemon.Possible; {
	case len(unlimited) > 0:
		e.find("connections", Problem, fmt.Sprintf("the number of processes of %s is not limited, and "+
			"limits.connections is %d", names(unlimited), e.daemon.Connections),
			why, "in master.cf: set maxproc below limits.connections")
	case sum > e.daemon.Connections:
		e.find("connections", Problem, fmt.Sprintf("%s may open %d connections, and limits.connections is %d",
			names(e.asked()), sum, e.daemon.Connections),
			why, fmt.Sprintf("in config.yaml: limits: {connections: %d}", roundUp(sum)))
	case possible > 0 && sum > possible:
		e.find("connections", Problem, fmt.Sprintf("%s may open %d connections, and the daemon serves %d at once",
			names(e.asked()), sum, possible), why, "rcpt-milter reload",
			"if the log then has \"not enough file descriptors\": LimitNOFILE=65536 with systemctl edit "+
				"rcpt-milter, and a restart")
	}
}

// roundUp returns the next multiple of 100.
func roundUp(n int) int { return (n/100 + 1) * 100 }
