package main

import (
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestReloadExclude: an excluded subtree takes effect by a reload, as does the end of one,
// with no session dropped. An unknown recipient is not refused before the full pass for it
// has ended.
func TestReloadExclude(t *testing.T) {
	r := newRig(t)
	r.edit("poll: 100ms", "poll: 100ms\n    removal_guard: {max: 0}")
	r.add(adsim.OU, "OU=Leavers,"+base, nil)
	r.add(adsim.User, "CN=eve,OU=Leavers,"+base, adsim.Attrs{"proxyAddresses": {"smtp:eve@corp.example"}})
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "eve@corp.example", "continue")

	const exclude = "\n    exclude: [\"ou=leavers, dc=corp, dc=example\"]"
	r.edit("poll: 100ms", "poll: 100ms"+exclude)
	r.want(exitOK, "reload")
	r.want(exitOK, "sync", "--wait")
	session.want(t, "eve@corp.example", "550")
	session.want(t, "jane@corp.example", "continue")

	r.server.Down()
	r.edit(exclude, "")
	r.want(exitOK, "reload")
	session.want(t, "eve@corp.example", "451")
	session.want(t, "jane@corp.example", "continue")
	if err := r.server.Up(); err != nil {
		t.Fatal(err)
	}
	r.want(exitOK, "sync", "--wait")
	session.want(t, "eve@corp.example", "continue")
	session.want(t, "nobody@corp.example", "550")

	// A contradiction is refused, and what ran before stays.
	r.edit("poll: 100ms", "poll: 100ms\n    bases: [\"CN=Users,"+base+"\"]"+exclude)
	if out := r.want(exitConfig, "reload"); !strings.Contains(out, "is outside all bases") {
		t.Errorf("reload of a contradiction says\n%s", out)
	}
	session.want(t, "eve@corp.example", "continue")
}
