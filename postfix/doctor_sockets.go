package postfix

import (
	"fmt"

	"rcpt-milter/internal/text"
)

// checkSockets checks that smtpd can reach and open the socket.
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
				e.checkSocket(at, "takes its default action for every recipient.")
			}
		}
	}
}

// strayed reports a path that does not lead to the socket of the daemon.
func (e *examination) strayed(l listener, m Milter) {
	_, where := m.split()
	state := "smtpd of " + l.String() + " looks for"
	if e.chrooted(l.Service) {
		state = "smtpd of " + l.String() + ", which is chrooted in " + e.queue() + ", looks for"
	}
	fix := e.moveSocket()
	if endpoint := e.endpoint(); endpoint != "" {
		fix = []string{e.set("smtpd_milters", e.beforeOthers(e.entry(endpoint), l))}
	}
	e.find("socket-path", Problem, fmt.Sprintf("%s %s at %s, and the daemon listens on %s", state, m.Endpoint,
		e.seenAs(l.Service, where), text.List(e.daemon.Listen, 5)),
		"smtpd finds no daemon there and takes its default action for every recipient.", fix...)
}

// checkSocket checks that smtpd can connect to a unix socket of the daemon. effect is what Postfix does otherwise.
func (e *examination) checkSocket(at, effect string) {
	user := e.Value(nil, "mail_owner")
	socket := e.host.Socket(at, user)
	start := "systemctl start rcpt-milter"
	if e.daemon.State != "" { // it runs, and listens elsewhere
		start = "systemctl restart rcpt-milter"
	}
	switch {
	case !socket.Exists && socket.Obstacle != "":
		e.find("socket-unseen", Note, "cannot examine the socket "+at+": "+socket.Obstacle, "Run doctor as root.")
	case !socket.Exists:
		e.find("socket-missing", Problem, "there is no socket at "+at, "Postfix "+effect, start)
	case !socket.IsSocket:
		e.find("socket-missing", Problem, at+" is not a socket", "Postfix "+effect, "rm "+text.ShellQuoted(at),
			"systemctl restart rcpt-milter")
	case !socket.Writable:
		e.find("socket-not-writable", Problem, fmt.Sprintf("the user %s may not write to the socket %s: %s", user, at,
			socket.Obstacle),
			"smtpd runs as that user and cannot connect. Postfix "+effect,
			fmt.Sprintf("in config.yaml: socket: {group: %s, mode: \"0660\"}", user), "systemctl restart rcpt-milter")
	case !socket.Answers:
		e.find("socket-deaf", Problem, "no process accepts connections on the socket "+at,
			"The daemon has ended. Postfix "+effect, "systemctl restart rcpt-milter")
	}
}
