package main

import (
	"strings"
	"testing"

	"rcpt-milter/control"
)

// badPasswords are contents of a password file with which no bind is tried, and words about it.
var badPasswords = map[string]struct{ content, words string }{
	"empty":              {"", "is empty"},
	"several lines":      {"correct horse battery\n# of svc-mail\n", "has more than one line"},
	"UTF-16":             {"\xff\xfec\x00o\x00r\x00", "is in UTF-16"},
	"control characters": {"\x1b[A\x1b[B", "holds the control character U+001B"},
}

// TestNoBindWithABadPasswordFile: not at the start, not by a command, not by a reload, and not
// by check --live; status says why, and a good file is used at once.
func TestNoBindWithABadPasswordFile(t *testing.T) {
	for name, bad := range badPasswords {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "confirm: {enabled: true}")
			r.edit("poll: 100ms", "poll: 100ms\n    notify: true")
			r.write("password", bad.content)
			r.serve()
			r.want(exitTemporary, "compare")
			for _, command := range [][]string{{"sync", "--wait"}, {"check"}, {"check", "--live"}} {
				if out := r.want(exitFailure, command...); !strings.Contains(out, bad.words) {
					t.Errorf("%v says nothing of it:\n%s", command, out)
				}
			}
			if s := r.status(); s.State != control.NotReady ||
				!strings.Contains(s.Directories[0].LastError, bad.words) {
				t.Errorf("status %s, last error %q", s.State, s.Directories[0].LastError)
			}
			if got := r.server.Stats(); got.Connections != 0 {
				t.Errorf("%d connections, %d binds", got.Connections, got.Binds+got.FailedBinds)
			}
			r.write("password", "\ufeff"+r.server.Password()+"\r\n")
			for r.status().State != control.Fresh {
			}
			if got := r.server.Stats().FailedBinds; got != 0 {
				t.Errorf("%d failed logons", got)
			}
		})
	}
}

// TestPasswordFileGoesBad checks that the current connection stays, and that status warns about the next one. A
// reload that needs a new connection is rejected, and any other is not.
func TestPasswordFileGoesBad(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	connections := r.connections()
	r.write("password", "one\ntwo\n")
	r.addUser("new", "smtp:new@corp.example")
	r.want(exitOK, "sync", "--wait")
	r.want(exitOK, "lookup", "new@corp.example")
	d := r.status().Directories[0]
	if got := strings.Join(d.Warnings, "\n"); !strings.Contains(got, "the current connection stays, but no new one "+
		"can be made: directory corp: bind.password_file: ") || d.LastError != "" {
		t.Errorf("warnings %q, last error %q", got, d.LastError)
	}

	r.edit("report.example: report", "report.example: enforce")
	r.want(exitOK, "reload")
	good := r.read(r.config)
	r.edit("poll: 100ms", "poll: 99ms")
	if out := r.want(exitConfig, "reload"); !strings.Contains(out, "directory corp: bind.password_file: the "+
		"password file "+r.dir+"/password has more than one line") {
		t.Errorf("reload says\n%s", out)
	}
	r.want(exitOK, "sync", "--wait")
	if got := r.server.Stats(); got.Connections != connections || got.FailedBinds != 0 {
		t.Errorf("%d connections, want %d; %d failed logons", got.Connections, connections, got.FailedBinds)
	}
	r.write("config.yaml", good)
	r.want(exitOK, "reload")

	r.server.CutConnections()
	for !strings.Contains(r.status().Directories[0].LastError, "has more than one line") {
	}
	r.write("password", r.server.Password())
	for d := r.status().Directories[0]; d.LastError != "" || len(d.Warnings) > 0; d = r.status().Directories[0] {
	}
	if got := r.server.Stats().FailedBinds; got != 0 {
		t.Errorf("%d failed logons", got)
	}
}
