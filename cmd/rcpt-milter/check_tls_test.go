package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/daemon"
	"rcpt-milter/testenv/adsim"
)

// TestCheckLiveNamesTLSFaults compares what check --live and status say about a server that prevents a
// safe connection. The texts are in testdata/check-tls.txt.
func TestCheckLiveNamesTLSFaults(t *testing.T) {
	var texts strings.Builder
	for _, how := range []adsim.Unsafe{adsim.SHA1Signature, adsim.NegativeSerial, adsim.RSAKeyExchange, adsim.OldTLS,
		adsim.LDAPNotice} {
		t.Run(string(how), func(t *testing.T) {
			r := newRig(t)
			s := adsim.StartUnsafe(t, how)
			ca, err := s.WriteCA(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			r.edit(r.server.URL(), "ldaps://"+s.Address())
			r.edit(r.ca, ca)
			found := named(r.findings(true), "problem")
			if len(found) != 1 || found[0].Name != "controller" {
				t.Fatalf("check --live finds %+v", found)
			}
			r.serve()
			r.want(exitFailure, "sync", "--wait")
			lastError := r.status().Directories[0].LastError
			if !strings.Contains(found[0].Text, lastError) {
				t.Errorf("check --live: %s\nlast error: %s", found[0].Text, lastError)
			}
			ours, _, _ := strings.Cut(lastError, " (tls: ") // the rest is of the library
			ours, _, _ = strings.Cut(ours, " (remote error: ")
			fmt.Fprintf(&texts, "%s: %s\n", how, strings.ReplaceAll(ours, s.Address(), "HOST"))
		})
	}
	compare(t, "check-tls.txt", texts.String())
}

// TestCheckWarnsOfThePort checks that check warns without --live as well.
func TestCheckWarnsOfThePort(t *testing.T) {
	r := newRig(t)
	r.edit(r.server.URL(), "ldap://dc1.corp.example:636")
	place := r.config + ":12:12: directories[0].urls[0]: "
	if found := named(r.findings(false), "warning:configuration"); !slices.ContainsFunc(found,
		func(f daemon.Finding) bool {
			return strings.HasPrefix(f.Text, place)
		}) {
		t.Errorf("check finds %+v", found)
	}
	r.want(exitOK, "check")
}
