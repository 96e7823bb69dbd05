package directory

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"rcpt-milter/testenv/adsim"
)

func TestBindWithKeytab(t *testing.T) {
	for name, change := range map[string]func(*realm){
		"plain":            func(*realm) {},
		"subkey":           func(r *realm) { r.subkey = true },
		"rotated":          func(r *realm) { r.rotation = 12 },
		"rotated further":  func(r *realm) { r.rotation, r.subkey = 1000, true },
		"AES128":           func(r *realm) { r.etype = etypeID.AES128_CTS_HMAC_SHA1_96 },
		"no layer offered": func(r *realm) { r.offer = []byte{1, 0, 0, 0} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t)
			change(r)
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			people(t, d, 2)
			s := adsim.StartTest(t, d, adsim.ServerConfig{Accept: r.accept})
			for _, url := range []string{s.URL(), s.StartTLSURL()} {
				config := r.config(s)
				config.URL = url
				c := must[*Conn](t)(Dial(t.Context(), config))
				all, err := readAll(t.Context(), c, 0)
				if err != nil || len(owners(all)) != 2 {
					t.Errorf("%s: read %v, %v", url, owners(all), err)
				}
				if got := hex.EncodeToString(r.chosen); got != "01000000" {
					t.Errorf("%s: chose the security layer %s", url, got)
				}
				// Flags: mutual, sequence. Binding: the certificate of this connection.
				binding := channelBinding(c.tls.ConnectionState())
				if got, want := hex.EncodeToString(r.seen.Cksum.Checksum),
					"10000000"+hex.EncodeToString(binding[:])+"0a000000"; got != want {
					t.Errorf("%s: checksum %s, want %s", url, got, want)
				}
				c.Close()
			}
			if st := s.Stats(); st.Binds != 2 || st.FailedBinds+st.ClearBinds != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// The value was calculated by another program.
func TestChannelBinding(t *testing.T) {
	certificate := &x509.Certificate{Raw: []byte("a certificate"), SignatureAlgorithm: x509.ECDSAWithSHA256}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	got := channelBinding(state)
	// md5(16 zeros, 53 as 4 bytes, "tls-server-end-point:", sha256("a certificate"))
	if want := "421782df33f5f2439ded6119a3fdbc68"; hex.EncodeToString(got[:]) != want {
		t.Errorf("binding %x, want %s", got, want)
	}
	for algorithm, same := range map[x509.SignatureAlgorithm]bool{
		x509.SHA1WithRSA: true, x509.SHA256WithRSAPSS: true, x509.SHA384WithRSA: false, x509.ECDSAWithSHA512: false,
		x509.PureEd25519: false,
	} {
		t.Run(algorithm.String(), func(t *testing.T) {
			certificate.SignatureAlgorithm = algorithm
			if other := channelBinding(state); (other == got) != same {
				t.Errorf("%v: binding %x, with SHA-256 %x", algorithm, other, got)
			}
		})
	}
	if channelBinding(tls.ConnectionState{}) != [md5.Size]byte{} {
		t.Error("a binding without a certificate")
	}
}

func TestRefusedByTheKDC(t *testing.T) {
	for _, tc := range []struct {
		question int
		code     int32
		kind     error
		words    string
	}{
		{1, 24, ErrForgeable, "the key in the keytab (version 3) does not match"},
		{1, 18, ErrForgeable, "disabled, locked out"},
		{1, 23, ErrForgeable, "expired"},
		{1, 6, ErrRefused, "svc-mail@CORP.EXAMPLE; correct bind.principal"},
		{1, 14, ErrRefused, "AES"},
		{1, 37, ErrRefused, "clock of this machine differs by 1h0m"},
		{1, 12, ErrRefused, "workstations"},
		{1, 68, ErrRefused, "does not serve the realm CORP.EXAMPLE"},
		{1, 60, ErrRefused, `Kerberos error 60 ("some text")`},
		{2, 7, ErrRefused, "does not know the controller as an LDAP service"},
		{2, 37, ErrRefused, "clock"},
	} {
		t.Run(tc.words, func(t *testing.T) {
			r := newRealm(t)
			r.refuse = map[int]int32{tc.question: tc.code}
			s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{Accept: r.accept})
			_, err := Dial(t.Context(), r.config(s))
			wantError(t, "refused", err, tc.kind, tc.words)
			if tc.kind != ErrForgeable && errors.Is(err, ErrCredentials) {
				t.Errorf("error %d counts as refused credentials", tc.code)
			}
		})
	}
}

func TestKerberosAnswersAreNotTrusted(t *testing.T) {
	wrongKey := types.EncryptionKey{KeyType: etypeID.AES128_CTS_HMAC_SHA1_96, KeyValue: []byte("fedcba9876543210")}
	for name, tc := range map[string]struct {
		change func(*realm)
		kind   error
		words  string
	}{
		"no answer": {func(r *realm) { r.garble = func(int, []byte) []byte { return nil } },
			ErrUnreachable, "lost"},
		"huge": {func(r *realm) {
			r.garble = func(int,
				[]byte) []byte {
				return []byte{0xff, 0xff, 0xff, 0xff}
			}
		}, ErrProtocol, "bytes is too long"},
		"not Kerberos": {func(r *realm) {
			r.garble = func(int,
				[]byte) []byte {
				return []byte{0, 0, 0, 2, 'h', 'i'}
			}
		}, ErrProtocol, "cannot read the"},
		"changed, first":  {func(r *realm) { r.garble = flipLast(1) }, ErrProtocol, "cannot read the"},
		"changed, second": {func(r *realm) { r.garble = flipLast(2) }, ErrProtocol, "cannot read the"},
		"proof of another time": {func(r *realm) { r.proof = func(p *messages.EncAPRepPart) { p.Cusec ^= 1 } },
			ErrTLS, "prove"},
		"another key": {func(r *realm) { r.proof = func(p *messages.EncAPRepPart) { p.Subkey = wrongKey } },
			ErrProtocol, "cannot read the"},
		"not AES": {func(r *realm) {
			r.proof = func(p *messages.EncAPRepPart) { p.Subkey.KeyType, p.Subkey.KeyValue = 23, []byte("x") }
		}, ErrProtocol, "not AES"},
		"layers only": {func(r *realm) { r.offer = []byte{6, 0, 0xff, 0xff} }, ErrRefused, "requires signing"},
		"no offer":    {func(r *realm) { r.offer = []byte{} }, ErrRefused, "requires signing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t)
			tc.change(r)
			s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{Accept: r.accept})
			_, err := Dial(t.Context(), r.config(s))
			wantError(t, name, err, tc.kind, tc.words)
			if err != nil && !strings.Contains(err.Error(), `bind as "svc-mail@corp.example"`) {
				t.Errorf("the error does not say who: %v", err)
			}
		})
	}
}

// flipLast changes the last octet of the answer to one question.
func flipLast(question int) func(int, []byte) []byte {
	return func(n int, b []byte) []byte {
		if n == question {
			b[len(b)-1] ^= 1
		}
		return b
	}
}

func TestKeytabBindFails(t *testing.T) {
	r := newRealm(t)
	s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{})
	good := r.config(s)
	for name, tc := range map[string]struct {
		change func(*Config)
		kind   error
		words  string
	}{
		"no such mechanism": {func(*Config) {}, ErrRefused, "does not support this authentication method"},
		"no file":           {func(c *Config) { c.Keytab = filepath.Join(t.TempDir(), "none") }, ErrConfig, "none"},
		"not in the file": {func(c *Config) { c.Principal = "other@CORP.EXAMPLE" }, ErrConfig,
			"svc-mail@CORP.EXAMPLE"},
		"no realm":       {func(c *Config) { c.Principal = "svc-mail" }, ErrConfig, "name@REALM"},
		"keytab only":    {func(c *Config) { c.Principal = "" }, ErrConfig, "must be set together"},
		"principal only": {func(c *Config) { c.Keytab = "" }, ErrConfig, "must be set together"},
		"password too":   {func(c *Config) { c.BindDN = "svc" }, ErrConfig, "one of them"},
		"KDC not there": {func(c *Config) {
			c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":88") {
					return nil, errors.New("connection refused")
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}
		}, ErrUnreachable, "Kerberos server (127.0.0.1:88): cannot connect"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			tc.change(&config)
			_, err := Dial(t.Context(), config)
			wantError(t, name, err, tc.kind, tc.words)
		})
	}
	s.SetFaults(adsim.Faults{BindResult: 8})
	_, err := Dial(t.Context(), good)
	wantError(t, "signing demanded", err, ErrRefused, "allow_sasl_over_tls")
	s.SetFaults(adsim.Faults{BindSubCode: "80090346"})
	_, err = Dial(t.Context(), good)
	wantError(t, "channel binding", err, ErrRefused, "channel binding")

	silent := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer silent.Close()
	r.address, good.DialTimeout = silent.Addr().String(), 500*time.Millisecond
	_, err = Dial(t.Context(), good)
	wantError(t, "a silent KDC", err, ErrTimeout, "Kerberos")
}
