package main

import (
	"context"
	"os"
	"regexp"
	"strings"
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

// A keytab is looked into without asking anybody, and changes like a password.
func TestKeytabIsChecked(t *testing.T) {
	r := newRig(t)
	keytab := r.write("svc.keytab", "\x05\x02")
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	bind := regexp.MustCompile(`bind: \{.*\}`).FindString(string(text))
	r.edit(bind, "bind: {keytab: "+keytab+", principal: svc-mail@CORP.EXAMPLE}")
	if out := r.want(exitFailure, "check"); !strings.Contains(out, "no key of \"svc-mail@CORP.EXAMPLE\"") {
		t.Errorf("check says\n%s", out)
	}
	secret := secretOf(config.Bind{Keytab: keytab})
	before := secret()
	r.write("svc.keytab", "\x05\x02\x00")
	if secret() == before {
		t.Error("another keytab is the same secret")
	}
	c := controllerConfig(config.Directory{Bind: config.Bind{Keytab: keytab, Principal: "p@X"}}, "ldaps://dc1")
	if c.Password != nil || c.Keytab != keytab || c.Principal != "p@X" {
		t.Errorf("%+v", c)
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
