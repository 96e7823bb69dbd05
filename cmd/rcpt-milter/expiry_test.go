package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/testenv"
	"rcpt-milter/testenv/adsim"
)

// TestExpiryOfAccount: soon after the start, status and metrics have the ends of certificate and
// password, and status warns of the near ones.
func TestExpiryOfAccount(t *testing.T) {
	r := newRig(t)
	r.server.SetCertificate(adsim.Expiring)
	r.addAccount(adsim.Attrs{"msDS-UserPasswordExpiryTimeComputed": {interval(5*day + time.Hour)}})
	r.serve()
	r.want(exitOK, "sync", "--wait")
	var d control.DirectoryStatus
	err := testenv.AwaitNil(t.Context(), 20*time.Millisecond, func(context.Context) error {
		if d = r.status().Directories[0]; d.Expiry == nil || d.Expiry.Checked.IsZero() {
			return errors.New("not read yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	near := 0
	for _, w := range d.Warnings {
		if strings.Contains(w, "expires on ") {
			near++
		}
	}
	if left := time.Until(d.Expiry.Password.Time); left < 5*day || left > 6*day || near != 2 ||
		!d.Expiry.Account.IsZero() {
		t.Errorf("%+v, %q", d.Expiry, d.Warnings)
	}
	if s := r.status(); len(s.DomainDecisions) == 0 {
		t.Errorf("%v", s.DomainDecisions)
	}
}
