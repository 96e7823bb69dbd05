package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/testenv/adsim"
)

// expiryRig is a watch with a fake clock and fake controllers.
type expiryRig struct {
	*expiryWatch
	clock    time.Time
	password string
	fails    map[string]error // by URL
	reads    []string         // URLs read since the last call of run
}

func newExpiryRig() *expiryRig {
	r := &expiryRig{expiryWatch: newExpiryWatch(slog.New(slog.DiscardHandler)), clock: noon, fails: map[string]error{}}
	r.now = func() time.Time { return r.clock }
	r.secret = func(config.Directory) string { return r.password }
	r.read = func(_ context.Context, _ config.Directory, url string) (expiries, error) {
		r.reads = append(r.reads, url)
		if err := r.fails[url]; err != nil {
			return expiries{}, err
		}
		return expiries{certificate: noon.Add(100 * day)}, nil
	}
	return r
}

// run ends a pass after a delay, does the reads that are due, and returns their URLs.
func (r *expiryRig) run(t *testing.T, later time.Duration) []string {
	r.clock, r.reads = r.clock.Add(later), nil
	r.passed("corp")
	for e := r.next(); e != nil; e = r.next() {
		r.check(t.Context(), e)
	}
	return r.reads
}

// TestExpiryWatch checks that each controller in use is read once a day, and that a rejected logon is not
// repeated.
func TestExpiryWatch(t *testing.T) {
	corp := config.Directory{Name: "corp", Bind: config.Bind{DN: "svc"}}
	one, two := []string{"ldaps://dc1"}, []string{"ldaps://dc2", "ldaps://dc1"}
	refused := fmt.Errorf("bind: %w", directory.ErrCredentials)
	for _, c := range []struct {
		name   string
		change func(*expiryRig)
		want   [][]string // read in passes after 0, 1, 7, 23 and 25 hours
	}{
		{"one controller", func(r *expiryRig) { r.connected(corp, one[0]) }, [][]string{one, nil, nil, nil, one}},
		{"no connection", func(*expiryRig) {}, [][]string{nil, nil, nil, nil, nil}},
		{"two, the last one first", func(r *expiryRig) {
			for _, url := range []string{"ldaps://dc1", "ldaps://dc2", "ldaps://dc1", "ldaps://dc2"} {
				r.connected(corp, url)
			}
		}, [][]string{two, nil, nil, nil, two}},
		{"fails", func(r *expiryRig) {
			r.connected(corp, one[0])
			r.fails[one[0]] = errors.New("no route")
		}, [][]string{one, nil, one, one, nil}},
		{"one of two is gone", func(r *expiryRig) {
			r.connected(corp, "ldaps://dc1")
			r.connected(corp, "ldaps://dc2")
			r.fails["ldaps://dc2"] = errors.New("no route")
		}, [][]string{two, nil, nil, nil, one}},
		{"rejected", func(r *expiryRig) {
			r.connected(corp, "ldaps://dc1")
			r.connected(corp, "ldaps://dc2")
			r.fails["ldaps://dc2"] = refused
		}, [][]string{two[:1], nil, nil, nil, two[:1]}},
		{"no password", func(r *expiryRig) {
			r.connected(corp, one[0])
			r.fails[one[0]] = fmt.Errorf("bind: %w", directory.ErrSecret)
		}, [][]string{one, nil, nil, nil, one}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newExpiryRig()
			c.change(r)
			var got [][]string
			for _, later := range []time.Duration{0, time.Hour, 6 * time.Hour, 16 * time.Hour, 2 * time.Hour} {
				got = append(got, r.run(t, later))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestExpiryOfNewAccount checks that a new account is read at once, that the number of controllers is limited,
// and that a clock that was set back does not stop the reads.
func TestExpiryOfNewAccount(t *testing.T) {
	r := newExpiryRig()
	corp := config.Directory{Name: "corp", Bind: config.Bind{DN: "svc"}}
	for i := range 20 {
		r.connected(corp, "ldaps://dc"+strconv.Itoa(i))
	}
	if got := r.run(t, 0); len(got) != maxExpiryControllers || got[0] != "ldaps://dc19" {
		t.Errorf("reads %v", got)
	}
	corp.Bind.DN = "other"
	r.connected(corp, "ldaps://dc1")
	if got := r.run(t, time.Minute); !slices.Equal(got, []string{"ldaps://dc1"}) {
		t.Errorf("after a change of the account it reads %v", got)
	}
	if got := r.run(t, -48*time.Hour); len(got) != 1 {
		t.Errorf("after the clock was set back it reads %v", got)
	}
}

// TestExpiryAfterRejection checks that a new password, or a connection with the present one, ends the warning of a
// rejected one, and that nothing else repeats the logon.
func TestExpiryAfterRejection(t *testing.T) {
	corp := config.Directory{Name: "corp", Bind: config.Bind{DN: "svc"}}
	const one, two = "ldaps://dc1", "ldaps://dc2"
	for _, c := range []struct {
		name   string
		change func(*expiryRig)
		reads  []string // in the next pass
		warned bool     // after it
	}{
		{"nothing changed", func(*expiryRig) {}, nil, true},
		{"a new password, which is accepted", func(r *expiryRig) {
			r.password = "new"
			clear(r.fails)
		}, []string{one}, false},
		{"a new password, which is rejected", func(r *expiryRig) { r.password = "new" }, []string{one}, true},
		{"a connection", func(r *expiryRig) { r.connected(corp, one) }, nil, false},
		{"a connection to another controller", func(r *expiryRig) { r.connected(corp, two) }, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newExpiryRig()
			r.fails[one] = fmt.Errorf("bind: %w", directory.ErrCredentials)
			r.connected(corp, one)
			r.run(t, 0)
			c.change(r)
			got := r.run(t, time.Minute)
			all := []control.DirectoryStatus{{Name: "corp"}}
			r.addTo(all, r.clock)
			if !slices.Equal(got, c.reads) || len(all[0].Warnings) > 0 != c.warned {
				t.Errorf("reads %q, warnings %q, want reads %q, warned %t", got, all[0].Warnings, c.reads, c.warned)
			}
			if again := r.run(t, time.Minute); len(again) > 0 {
				t.Errorf("the next pass reads %q", again)
			}
		})
	}
}

// TestExpiryInStatus checks that status shows the expiry times, and warns if one is near or past.
func TestExpiryInStatus(t *testing.T) {
	for _, c := range []struct {
		name     string
		found    expiries
		err      error
		warnings int
	}{
		{"far", expiries{certificate: noon.Add(60 * day), password: noon.Add(15 * day), account: noon.Add(day * 400)},
			nil, 0},
		{"never", expiries{}, nil, 0},
		{"near", expiries{certificate: noon.Add(13 * day), password: noon.Add(day), account: noon.Add(time.Hour)}, nil,
			3},
		{"past", expiries{password: noon.Add(-day)}, nil, 1},
		{"rejected", expiries{}, directory.ErrCredentials, 1},
		{"down", expiries{}, errors.New("no route"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newExpiryRig()
			r.read = func(context.Context, config.Directory, string) (expiries, error) { return c.found, c.err }
			r.connected(config.Directory{Name: "corp"}, "ldaps://dc1")
			all := []control.DirectoryStatus{{Name: "corp"}, {Name: "other"},
				{Name: "corp", State: control.Retired}, {Name: "corp", Stream: &control.StreamStatus{}}}
			r.addTo(all, noon)
			if all[0].Expiry != nil {
				t.Error("it has an expiry before the first read")
			}
			r.run(t, 0)
			r.addTo(all, noon)
			want := &control.ExpiryStatus{Certificate: control.Time{Time: c.found.certificate},
				Password: control.Time{Time: c.found.password}, Account: control.Time{Time: c.found.account},
				LastError: errorText(c.err)}
			if c.err == nil {
				want.Checked = control.Time{Time: noon}
			}
			if d := cmp.Diff(want, all[0].Expiry); d != "" || len(all[0].Warnings) != c.warnings {
				t.Errorf("-want +got:\n%s\n%q", d, all[0].Warnings)
			}
			for _, d := range all[1:] {
				if d.Expiry != nil || d.Warnings != nil {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

// TestReadExpiries reads the expiry times from a simulated controller.
func TestReadExpiries(t *testing.T) {
	ad, server, d := newTestDirectory(t)
	server.SetCertificate(adsim.Expiring)
	ends := time.Now().Add(9 * day).UTC().Truncate(time.Second)
	if _, err := ad.Add(adsim.User, "CN=svc-mail,CN=Users,"+base, adsim.Attrs{"sAMAccountName": {"svc-mail"},
		"userPrincipalName": {server.BindDN()},
		"msDS-UserPasswordExpiryTimeComputed": {strconv.FormatInt(ends.Unix()*1e7+116444736000000000,
			10)}}); err != nil {
		t.Fatal(err)
	}
	found, err := readExpiries(t.Context(), d, d.URLs[0])
	if err != nil || !found.password.Equal(ends) || !found.account.IsZero() {
		t.Errorf("%+v, %v; want password %v", found, err, ends)
	}
	if left := time.Until(found.certificate); left < 6*day || left > 7*day {
		t.Errorf("the certificate has %v left", left)
	}
	server.SetPassword("other")
	if _, err := readExpiries(t.Context(), d, d.URLs[0]); !errors.Is(err, directory.ErrCredentials) {
		t.Errorf("error %v", err)
	}
}

// TestFirstExpiry checks that the earliest expiry in a chain counts.
func TestFirstExpiry(t *testing.T) {
	cert := func(left time.Duration) *x509.Certificate { return &x509.Certificate{NotAfter: noon.Add(left)} }
	for _, c := range []struct {
		name string
		all  []*x509.Certificate
		want time.Time
	}{
		{"none", nil, time.Time{}},
		{"leaf first", []*x509.Certificate{cert(day), cert(100 * day)}, noon.Add(day)},
		{"authority first", []*x509.Certificate{cert(100 * day), cert(day), cert(2 * day)}, noon.Add(day)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := firstExpiry(c.all); !got.Equal(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestStreamExpiry checks that the latest expiry among authority certificates counts, and the only expiry of
// the client certificate.
func TestStreamExpiry(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, ends ...time.Time) string {
		var text []byte
		for _, end := range ends {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon.Add(-day), NotAfter: end}
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	near, far := noon.Add(day), noon.Add(100*day)
	renewed, single, own := file("renewed", near, far), file("single", far), file("own", near)
	for _, c := range []struct {
		name string
		tls  config.StreamTLS
		want time.Time
	}{
		{"no files", config.StreamTLS{}, time.Time{}},
		{"authority", config.StreamTLS{CAFile: single}, far},
		{"renewed authority", config.StreamTLS{CAFile: renewed}, far},
		{"client certificate", config.StreamTLS{CAFile: single, CertFile: own}, near},
		{"client certificate only", config.StreamTLS{CertFile: own}, near},
		{"files are gone", config.StreamTLS{CAFile: "/nowhere", CertFile: "/nowhere"}, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := streamExpiry(config.Stream{TLS: c.tls}); !got.Equal(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			status := (&link{config: config.Stream{TLS: c.tls}}).status()
			if !status.CertificateExpires.Equal(c.want) {
				t.Errorf("status has %v", status.CertificateExpires)
			}
		})
	}
}
