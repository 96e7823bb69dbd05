package main

import (
	"context"
	"testing"

	"rcpt-milter/config"
)

// With notify a change is seen though the next poll is an hour away.
func TestNotifyIsWired(t *testing.T) {
	r := newRig(t)
	r.edit("poll: 100ms", "poll: 1h\n    notify: true")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	for !r.status().Directories[0].Notify {
	}
	r.addUser("new", "smtp:new@corp.example")
	for {
		if status, _, _ := r.command("lookup", "new@corp.example"); status == exitOK {
			return
		}
	}
}

func TestControllers(t *testing.T) {
	listed, discover := controllers(config.Directory{URLs: []string{"ldaps://dc1.corp.example:636", "ldap://[2001:db8::1]:389"}})
	if discover != nil || len(listed) != 2 || listed[0].Host != "dc1.corp.example" || listed[1].Host != "2001:db8::1" || listed[1].Name != "ldap://[2001:db8::1]:389" {
		t.Errorf("listed: %+v, discover %t", listed, discover != nil)
	}
	listed, discover = controllers(config.Directory{Discover: "corp.invalid"})
	if listed != nil || discover == nil {
		t.Fatalf("discovered: %+v, discover %t", listed, discover != nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := discover(ctx); err == nil || len(got) != 0 {
		t.Errorf("discover after its context ended: %v, %v", got, err)
	}
}
