package main

import (
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// TestCheckLiveNamesTLSFaults: check --live and status say the same about a server that keeps
// us from a safe connection.
func TestCheckLiveNamesTLSFaults(t *testing.T) {
	for how, want := range map[adsim.Unsafe]string{
		adsim.SHA1Signature:  "is signed with SHA-1, which is not safe; issue it again",
		adsim.NegativeSerial: "has a negative serial number, which RFC 5280 forbids (section 4.1.2.2); issue it again",
		adsim.RSAKeyExchange: "the controller allows only RSA key exchange; allow TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		adsim.OldTLS:         "rejects TLS 1.2 and 1.3; enable TLS 1.2 on it",
		adsim.LDAPNotice:     "the port speaks LDAP without TLS; write ldap:// for StartTLS",
	} {
		t.Run(string(how), func(t *testing.T) {
			r := newRig(t)
			s := adsim.StartUnsafe(t, how)
			ca, err := s.WriteCA(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			r.edit(r.server.URL(), "ldaps://"+s.Address())
			r.edit(r.ca, ca)
			if out := r.want(exitFailure, "check", "--live"); !strings.Contains(out, want) {
				t.Errorf("check --live says\n%s", out)
			}
			r.serve()
			r.want(exitFailure, "sync", "--wait")
			if got := r.status().Directories[0].LastError; !strings.Contains(got, want) {
				t.Errorf("last error: %s", got)
			}
		})
	}
}

// TestCheckWarnsOfThePort: without --live as well.
func TestCheckWarnsOfThePort(t *testing.T) {
	r := newRig(t)
	r.edit(r.server.URL(), "ldap://dc1.corp.example:636")
	if out := r.want(exitOK, "check"); !strings.Contains(out, "warning: "+r.config+":12:12: directories[0].urls[0]: "+
		"port 636 of a domain controller is LDAP over TLS") {
		t.Errorf("check says\n%s", out)
	}
}
