package postfix

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/internal/text"
)

// checkDaemon: the daemon answers, and can be trusted.
func (e *examination) checkDaemon() {
	switch e.daemon.State {
	case "":
		e.find("daemon-silent", Fault, "the daemon does not answer: "+e.daemon.Trouble,
			"While it is away Postfix acts by its default action. What its index knows could not be checked here.",
			"systemctl start rcpt-milter")
	case "not_ready":
		e.find("index-not-ready", Fault, "a directory has not been read in full yet",
			"Recipients that are not known are put off with 451 until it is.", "rcpt-milter status", "rcpt-milter check --live")
	case "stale":
		e.find("index-stale", Fault, "the index is too old to be trusted about whom it does not know",
			"Recipients that are not known are put off with 451 until a pass succeeds.", "rcpt-milter status", "rcpt-milter check --live")
	case "late":
		e.find("index-late", Note, "the index is older than it should be", "New recipients are not known yet.", "rcpt-milter status")
	}
	var watched []string
	for _, domain := range slices.Sorted(maps.Keys(e.daemon.Domains)) {
		if e.daemon.Domains[domain] == "report" {
			watched = append(watched, domain)
		}
	}
	if len(watched) > 0 {
		e.find("mode-report", Note, "nothing is refused in "+text.List(watched, 10)+", whose mode is report",
			"That is right while you look at what would be refused.", "rcpt-milter report", "in config.yaml: "+watched[0]+": enforce")
	}
}

// checkAsked: every listener that takes mail from outside asks us.
func (e *examination) checkAsked() {
	outsiders := e.those(func(l listener) bool { return l.role == outside })
	if len(outsiders) == 0 {
		e.find("no-listener", Fault, "master.cf has no smtpd that takes mail from outside",
			"Nobody can be asked about recipients.", "rcpt-milter doctor --postfix-config DIR, where Postfix runs with another directory")
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
		var mend []string
		if !slices.ContainsFunc(ParseMilters(e.Value(nil, "smtpd_milters")), func(m Milter) bool { return e.isOurs(all[0].Service, m) }) {
			mend = e.addUs("smtpd_milters")
		}
		for _, l := range all {
			for _, name := range []string{"smtpd_milters", "receive_override_options"} {
				if _, set := l.Overrides[name]; set && (name == "smtpd_milters" || strings.Contains(l.Overrides[name], "no_milters")) {
					mend = append(mend, e.postconf("-PX", l.String()+"/"+name))
				}
			}
		}
		e.notAsked(all, mend...)
	}
}

func (e *examination) notAsked(all []listener, mend ...string) {
	e.find("milter-missing", Fault, "rcpt-milter is not asked about recipients that come in through "+names(all),
		"Mail for nobody is accepted there, and bounces later to senders that are often forged.", mend...)
}

// overridesMilters reports whether -o of master.cf decides which milters a listener has.
func (e *examination) overridesMilters(l listener) bool {
	_, milters := l.Overrides["smtpd_milters"]
	if options, own := l.Overrides["receive_override_options"]; own {
		return milters || strings.Contains(options, "no_milters")
	}
	return milters && !strings.Contains(e.Value(nil, "receive_override_options"), "no_milters")
}

// addUs are the commands that put us in front of the milters of main.cf.
func (e *examination) addUs(parameter string) []string {
	endpoint := e.endpoint()
	if endpoint == "" {
		return e.moveSocket()
	}
	value := e.entry(endpoint)
	if others := e.Parameters[parameter]; others != "" {
		value += ", " + others
	}
	var mend []string
	if strings.Contains(e.Value(nil, "receive_override_options"), "no_milters") {
		mend = append(mend, e.set("receive_override_options", strings.Join(slices.DeleteFunc(list(e.Value(nil, "receive_override_options")),
			func(word string) bool { return word == "no_milters" }), ", ")))
	}
	if slices.ContainsFunc(ParseMilters(e.Value(nil, parameter)), func(m Milter) bool { return m.Endpoint == endpoint }) {
		return mend
	}
	return append(mend, e.set(parameter, value))
}

// moveSocket is how to get our socket where a chrooted smtpd sees it.
func (e *examination) moveSocket() []string {
	return []string{"in config.yaml: listen: unix:" + e.queue() + "/rcpt-milter/milter.sock",
		e.set("smtpd_milters", e.entry("unix:rcpt-milter/milter.sock"))}
}

// without is a list of milters without the daemon.
func (e *examination) without(s *Service, all []Milter) string {
	var rest []string
	for _, m := range all {
		if !e.isOurs(s, m) && !e.isStray(m) {
			rest = append(rest, m.source)
		}
	}
	return strings.Join(rest, ", ")
}

// checkElsewhere: we are asked once, and nowhere else.
func (e *examination) checkElsewhere() {
	cleanup := &Service{Chroot: "n", Overrides: map[string]string{}}
	local := ParseMilters(e.Value(nil, "non_smtpd_milters"))
	if slices.ContainsFunc(local, func(m Milter) bool { return e.isOurs(cleanup, m) || e.isStray(m) }) {
		e.find("milter-non-smtpd", Fault, "rcpt-milter is in non_smtpd_milters",
			"Mail that programs of this host submit, bounces and forwarded mail among them, would be dropped or put off where a recipient is not known.",
			e.set("non_smtpd_milters", e.without(cleanup, local)))
	}
	for _, l := range e.listeners {
		switch {
		case len(l.ours) == 0 || l.role == outside:
		case l.role == submission && e.daemon.ExemptAuthenticated:
		case l.role == submission:
			e.find("milter-submission", Fault, "rcpt-milter is asked about mail that users submit, on "+l.String(),
				"Mail programs take a 451 for a failure, and users would be refused or put off where the index cannot tell.", e.override(l)...)
		default:
			e.find("milter-reinjection", Fault, "rcpt-milter is asked again about mail that comes back from a content filter, on "+l.String(),
				"That mail has been accepted: whoever left in between now causes a bounce, and a 451 fills the filter's queue.", e.override(l)...)
		}
		if len(l.ours) > 1 {
			e.find("milter-twice", Note, "rcpt-milter is asked twice by "+l.String(), "It answers the same and costs twice.",
				e.set("smtpd_milters", strings.TrimSuffix(l.ours[0].source+", "+e.without(l.Service, l.all), ", ")))
		}
	}
}

// override takes us out of the milters of one listener. postconf -P takes no value with
// white space in it; a name for that value does.
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

// asked are the listeners that ask us.
func (e *examination) asked() []listener {
	return e.those(func(l listener) bool { return len(l.ours) > 0 })
}

// byValue groups the listeners that ask us by what a check finds of them; empty: nothing.
func (e *examination) byValue(value func(listener, Milter) string) map[string][]listener {
	groups := map[string][]listener{}
	for _, l := range e.asked() {
		if found := value(l, l.ours[0]); found != "" {
			groups[found] = append(groups[found], l)
		}
	}
	return groups
}

// checkActions: what Postfix does when nobody answers.
func (e *examination) checkActions() {
	groups := e.byValue(func(l listener, m Milter) string {
		action, given := m.Options["default_action"]
		if !given {
			action, given = e.Value(l.Service, "milter_default_action"), e.isSet(l.Service, "milter_default_action")
		}
		switch {
		case !given:
			return "unset"
		case action == "tempfail" || action == "shutdown":
			return ""
		}
		return action
	})
	for _, action := range slices.Sorted(maps.Keys(groups)) {
		what := fmt.Sprintf("with the daemon away, %s acts by milter_default_action %s", names(groups[action]), action)
		why := "It is none of tempfail, shutdown."
		switch action {
		case "unset":
			what = "what " + names(groups[action]) + " does with the daemon away is left to Postfix's default"
			why = "The default differs between releases (tempfail, shutdown)."
		case "accept", "quarantine":
			why = "Every restart of the daemon lets mail for nobody in, for the rest of each SMTP session."
		case "reject":
			why = "Every restart of the daemon refuses valid mail for good."
		}
		e.find("default-action", Fault, what, why, e.withOption(groups[action][0], "default_action=tempfail"))
	}
}

// withOption is the command that gives our entry in smtpd_milters an option.
func (e *examination) withOption(l listener, option string) string {
	ours := l.ours[0]
	options := maps.Clone(ours.Options)
	name, value, _ := strings.Cut(option, "=")
	options[name] = value
	text := "{ " + ours.Endpoint
	for _, name := range slices.Sorted(maps.Keys(options)) {
		text += ", " + name + "=" + options[name]
	}
	text = strings.TrimSuffix(text+" }, "+e.without(l.Service, l.all), ", ")
	if _, overridden := l.Overrides["smtpd_milters"]; overridden {
		return e.set("outside_milters", text) + " && " + e.postconf("-P", l.String()+"/smtpd_milters=$outside_milters")
	}
	return e.set("smtpd_milters", text)
}

// Times between which Postfix may be told to wait for us: below, a moment of load makes
// it give up for the rest of the session; above, sessions pile up behind a daemon that
// hangs.
const (
	leastConnect, mostConnect = time.Second, time.Minute
	leastCommand, mostCommand = 3 * time.Second, 2 * time.Minute
)

// checkTimeouts: Postfix waits long enough for an answer, and not for ever.
func (e *examination) checkTimeouts() {
	for _, c := range []struct {
		option, parameter, good string
		least, most             time.Duration
	}{
		{"connect_timeout", "milter_connect_timeout", "5s", leastConnect, mostConnect},
		{"command_timeout", "milter_command_timeout", "10s", max(leastCommand, e.daemon.Patience+time.Second), mostCommand},
	} {
		groups := e.byValue(func(l listener, m Milter) string {
			text, given := m.Options[c.option]
			if !given {
				text = e.Value(l.Service, c.parameter)
			}
			if wait, ok := parseTime(text); !ok || wait >= c.least && wait <= c.most {
				return ""
			}
			return text
		})
		for _, text := range slices.Sorted(maps.Keys(groups)) {
			why := "After that it gives up on the daemon for the rest of the SMTP session, although only the moment was busy."
			if wait, _ := parseTime(text); wait > c.most {
				why = "Should the daemon ever hang, sessions pile up until no smtpd is left."
			}
			e.find("timeout", Fault, fmt.Sprintf("%s waits %s at %s", names(groups[text]), text, c.option), why,
				e.withOption(groups[text][0], c.option+"="+c.good))
		}
	}
}

// checkProtocol: the macros that the decision needs come with version 6 only.
func (e *examination) checkProtocol() {
	groups := e.byValue(func(l listener, m Milter) string {
		text, given := m.Options["protocol"]
		if !given {
			text = e.Value(l.Service, "milter_protocol")
		}
		if compareValues(text, "6") >= 0 {
			return ""
		}
		return text
	})
	for _, version := range slices.Sorted(maps.Keys(groups)) {
		e.find("protocol", Fault, fmt.Sprintf("%s speaks version %s of the milter protocol", names(groups[version]), version),
			"The daemon has to ask for the recipient as Postfix understood it, which takes version 6.", e.set("milter_protocol", "6"))
	}
}

// checkConnections: every smtpd keeps a connection to us.
func (e *examination) checkConnections() {
	sum, unlimited := 0, []listener{}
	for _, l := range e.asked() {
		n := e.processes(l.Service)
		if sum += n; n == 0 {
			unlimited = append(unlimited, l)
		}
	}
	const why = "Beyond the limit connections wait, and with them the SMTP sessions of those who write to us."
	switch {
	case len(unlimited) > 0:
		e.find("connections", Fault, fmt.Sprintf("the number of processes of %s is not limited, and limits.connections is %d", names(unlimited), e.daemon.Connections),
			why, "limit the column maxproc in master.cf to a number below limits.connections")
	case sum > e.daemon.Connections:
		e.find("connections", Fault, fmt.Sprintf("%s may run %d processes with a connection each, and limits.connections is %d", names(e.asked()), sum, e.daemon.Connections),
			why, fmt.Sprintf("in config.yaml: limits: {connections: %d}", roundUp(sum)))
	}
}

// roundUp leaves some room.
func roundUp(n int) int { return (n/100 + 1) * 100 }

// checkSockets: the socket is where smtpd looks for it, and lets it in.
func (e *examination) checkSockets() {
	seen := map[string]bool{}
	for _, l := range e.listeners {
		for _, m := range l.stray {
			e.strayed(l, m)
		}
		for _, m := range l.ours {
			kind, where := m.split()
			if at := e.seenAs(l.Service, where); kind == "unix" && !seen[at] {
				seen[at] = true
				e.checkSocket(at)
			}
		}
	}
}

// strayed: a path that leads somewhere else than to our socket.
func (e *examination) strayed(l listener, m Milter) {
	_, where := m.split()
	state := "smtpd of " + l.String() + " looks for"
	if e.chrooted(l.Service) {
		state = "smtpd of " + l.String() + ", which is chrooted in " + e.queue() + ", looks for"
	}
	mend := e.moveSocket()
	if endpoint := e.endpoint(); endpoint != "" {
		mend = []string{e.set("smtpd_milters", strings.TrimSuffix(e.entry(endpoint)+", "+e.without(l.Service, l.all), ", "))}
	}
	e.find("socket-path", Fault, fmt.Sprintf("%s %s at %s, and the daemon listens on %s", state, m.Endpoint, e.seenAs(l.Service, where), text.List(e.daemon.Listen, 5)),
		"It finds nobody there, and acts by its default action on every recipient.", mend...)
}

func (e *examination) checkSocket(at string) {
	user := e.Value(nil, "mail_owner")
	socket := e.world.Socket(at, user)
	switch {
	case !socket.Exists && socket.Obstacle != "":
		e.find("socket-unseen", Note, "whether the socket "+at+" is there cannot be seen: "+socket.Obstacle, "Run doctor as root.")
	case !socket.Exists:
		e.find("socket-missing", Fault, "there is no socket at "+at, "Postfix acts by its default action on every recipient.", "systemctl start rcpt-milter")
	case !socket.IsSocket:
		e.find("socket-missing", Fault, at+" is not a socket", "Postfix acts by its default action on every recipient.", "rm "+shellQuoted(at), "systemctl restart rcpt-milter")
	case !socket.Writable:
		e.find("socket-not-writable", Fault, fmt.Sprintf("the user %s may not write to the socket %s: %s", user, at, socket.Obstacle),
			"smtpd runs as that user, cannot connect, and acts by its default action on every recipient.",
			fmt.Sprintf("in config.yaml: socket: {group: %s, mode: \"0660\"}", user), "systemctl restart rcpt-milter")
	case !socket.Answers:
		e.find("socket-deaf", Fault, "nobody takes connections on the socket "+at, "The daemon that made it is gone, and Postfix acts by its default action on every recipient.",
			"systemctl restart rcpt-milter")
	}
}
