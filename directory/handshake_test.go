package directory

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// unsafeConfig is for a server that keeps clients from a safe connection.
func unsafeConfig(t *testing.T, s *adsim.UnsafeServer, scheme string) Config {
	return Config{
		URL: scheme + "://" + s.Address(), BindDN: "svc", Password: func() ([]byte,
			error) {
			return []byte("hunter2"), nil
		},
		CAFile: must[string](t)(s.WriteCA(t.TempDir())), DialTimeout: 20 * time.Second,
	}
}

// kindsOfServers, and what is said of them: over LDAPS, and over StartTLS if that differs.
var kindsOfServers = []struct {
	how   adsim.Unsafe
	kind  error
	words []string
	clear []string // nil: as words; empty: a server that does not keep us from binding
}{
	{adsim.SHA1Signature, ErrTLS, []string{`the certificate of "CN=dc1.corp.example" is signed with SHA-1`,
		`issue it again with a SHA-256 signature of its authority, "CN=adsim root"`}, nil},
	{adsim.SHA1Intermediate, ErrTLS, []string{`the certificate of "CN=adsim issuing authority" is signed with SHA-1`,
		"with a SHA-256 signature"}, nil},
	{adsim.NegativeSerial, ErrTLS, []string{"has a negative serial number", "RFC 5280", "issue it again from an " +
		"authority whose serial numbers are positive"}, nil},
	{adsim.RSAKeyExchange, ErrTLS, []string{"the controller allows only RSA key exchange",
		"allow TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}, nil},
	{adsim.OldTLS, ErrTLS, []string{"rejects TLS 1.2 and 1.3; enable TLS 1.2 on it"}, nil},
	{adsim.ClientCertificate, ErrTLS, []string{"requires a client certificate"}, nil},
	{adsim.NoAltNames, ErrTLS, []string{`not for "127.0.0.1"`, `its common name "dc1.corp.example" does not count`},
		nil},
	{adsim.ClientUseOnly, ErrTLS, []string{"the certificate is not for servers; issue one with the extended key " +
		"usage Server Authentication"}, nil},
	{adsim.SelfSigned, ErrTLS,
		[]string{`the certificate of "CN=dc1.corp.example" is self-signed; add it to tls.ca_file`}, nil},
	{adsim.NoIntermediate, ErrTLS, []string{"set tls.ca_file to the certificate of the authority that issued it, " +
		`"CN=adsim issuing authority"; tls.ca_file holds "CN=adsim root"`}, nil},
	{adsim.RenewedAuthority, ErrTLS, []string{`not signed by the key of the authority "CN=adsim root" in tls.ca_file`,
		"add its current certificate to tls.ca_file"}, nil},
	{adsim.ExpiredAuthority, ErrTLS, []string{`the certificate of the authority "CN=adsim root" has expired`,
		"add the new one to tls.ca_file"}, nil},
	{adsim.ExpiredLeaf, ErrTLS, []string{"the certificate has expired; renew it on the controller"}, nil},
	{adsim.NoCertSign, ErrTLS, []string{`the certificate of "CN=adsim root" in tls.ca_file may not sign certificates`,
		"its key usage lacks keyCertSign; issue it again as that of an authority, and replace it in tls.ca_file"}, nil},
	{adsim.NoAuthority, ErrTLS, []string{`the certificate of "CN=adsim root" in tls.ca_file may not sign certificates`,
		"it is not that of an authority"}, nil},
	{adsim.DropsLargeHello, ErrTimeout, []string{"no answer to the TLS handshake",
		"drops a ClientHello in two packets: update it, or start this program with GODEBUG=tlsmlkem=0"}, nil},
	{adsim.ResetsLargeHello, ErrTLS, []string{"closed the connection in the TLS handshake",
		"drops a ClientHello in two packets: update it, or start this program with GODEBUG=tlsmlkem=0"}, nil},
	{adsim.HangsUp, ErrTLS, []string{"closed the connection in the TLS handshake; check that it has a " +
		"certificate with a private key"}, []string{}},
	{adsim.LDAPNotice, ErrTLS, []string{"the port speaks LDAP without TLS; write ldap:// for StartTLS"}, []string{}},
	{adsim.LDAPCloses, ErrTLS, []string{"closed the connection in the TLS handshake",
		"LDAP without TLS, as on port 389, " +
			"write ldap://"}, []string{}},
	{adsim.LDAPSilent, ErrTimeout, []string{"no answer to the TLS handshake; check that the port speaks TLS; for " +
		"LDAP without " +
		"TLS, as on port 389, write ldap://"}, []string{}},
	{adsim.TLSAlert, ErrTLS, []string{}, []string{"the port speaks TLS from the first byte", "write ldaps://"}},
	{adsim.TLSCloses, ErrUnreachable, []string{}, []string{"closed the connection at StartTLS", "write ldaps://"}},
	{adsim.TLSSilent, ErrTimeout, []string{}, []string{"no answer to StartTLS; if the port speaks TLS from the " +
		"first byte, as 636 does, write ldaps://"}},
}

// TestKindsOfServers: each says what is wrong and what to do, and gets no password.
func TestKindsOfServers(t *testing.T) {
	for _, c := range kindsOfServers {
		for _, scheme := range []string{"ldaps", "ldap"} {
			words := c.words
			if scheme == "ldap" && c.clear != nil {
				words = c.clear
			}
			if len(words) == 0 {
				continue
			}
			t.Run(string(c.how)+"/"+scheme, func(t *testing.T) {
				t.Parallel()
				s := adsim.StartUnsafe(t, c.how)
				config := unsafeConfig(t, s, scheme)
				if c.kind == ErrTimeout {
					config.DialTimeout = 300 * time.Millisecond
				}
				_, err := Dial(t.Context(), config)
				for _, w := range words {
					wantError(t, string(c.how), err, c.kind, w)
				}
				if c.how != adsim.ClientCertificate && bytes.Contains(s.Received(), []byte("hunter2")) {
					t.Error("the password was sent")
				}
			})
		}
	}
}

// TestSmallHello: the remedy for a large ClientHello that is dropped works.
func TestSmallHello(t *testing.T) {
	t.Setenv("GODEBUG", "tlsmlkem=0")
	late := time.Now().Add(time.Minute)
	for _, how := range []adsim.Unsafe{adsim.DropsLargeHello, adsim.ResetsLargeHello} {
		s := adsim.StartUnsafe(t, how)
		config := unsafeConfig(t, s, "ldaps")
		config.DialTimeout = 2 * time.Second
		_, err := Dial(t.Context(), config) // it cannot bind, but gets as far as that
		wantError(t, string(how), err, ErrTimeout, "bind as")
		for !bytes.Contains(s.Received(), []byte("hunter2")) { // after the server saw the end
			if time.Now().After(late) {
				t.Fatalf("%s: no bind", how)
			}
		}
	}
}

// TestByteOrderMark: a CA file that an editor of Windows wrote is as good as any other.
func TestByteOrderMark(t *testing.T) {
	server := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{})
	ca := must[string](t)(server.WriteCA(t.TempDir()))
	text := must[[]byte](t)(os.ReadFile(ca))
	if err := os.WriteFile(ca, append([]byte("\ufeff"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), Config{URL: server.URL(), BindDN: server.BindDN(), CAFile: ca,
		Password: func() ([]byte, error) { return []byte(server.Password()), nil }})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// at redirects a configuration to a server, by a URL with another host and port.
func at(config Config, url string, s *adsim.UnsafeServer) Config {
	config.URL, config.DialTimeout = url, 2*time.Second // a busy machine takes long to connect
	config.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Address())
	}
	return config
}

// TestSchemeThatDoesNotFitThePort: whatever the controller makes of it.
func TestSchemeThatDoesNotFitThePort(t *testing.T) {
	ldap := []adsim.Unsafe{adsim.LDAPCloses, adsim.LDAPSilent, adsim.LDAPNotice}
	tls := []adsim.Unsafe{adsim.TLSCloses, adsim.TLSSilent, adsim.TLSAlert}
	for _, c := range []struct {
		url     string
		servers []adsim.Unsafe
		closed  error  // kind, where the connection is ended
		words   string // of the first two servers
		answers string // of the last one, which answers in its own protocol
	}{
		{"ldaps://dc1.corp.example:389", ldap, ErrTLS, "speak LDAP without TLS on port 389: write ldap:// for " +
			"StartTLS" +
			", or ldaps:// with port 636", "the port speaks LDAP without TLS; write ldap://"},
		{"ldaps://dc1.corp.example:3268", ldap, ErrTLS, "speak LDAP without TLS on port 3268: write ldap:// for " +
			"StartTLS" +
			", or ldaps:// with port 3269", "the port speaks LDAP without TLS; write ldap://"},
		{"ldap://dc1.corp.example:636", tls, ErrUnreachable, "speak TLS from the first byte on port 636: write " +
			"ldaps:// " +
			"instead of ldap://", "the port speaks TLS from the first byte"},
		{"ldap://dc1.corp.example:3269", tls, ErrUnreachable, "speak TLS from the first byte on port 3269: write " +
			"ldaps:// " +
			"instead of ldap://", "the port speaks TLS from the first byte"},
	} {
		for i, how := range c.servers {
			t.Run(c.url+"/"+string(how), func(t *testing.T) {
				t.Parallel()
				s := adsim.StartUnsafe(t, how)
				_, err := Dial(t.Context(), at(unsafeConfig(t, s, "ldap"), c.url, s))
				wantError(t, c.url, err, []error{c.closed, ErrTimeout, ErrTLS}[i],
					[]string{c.words, c.words, c.answers}[i])
			})
		}
	}
}

// TestPortThatFits: nothing is said of a port that is right.
func TestPortThatFits(t *testing.T) {
	for url, want := range map[string]bool{
		"ldaps://dc": false, "ldap://dc": false, "ldaps://dc:636": false, "ldaps://dc:3269": false,
		"ldap://dc:389": false, "ldap://dc:3268": false,
		"ldaps://dc:1389": false, "ldap://dc:1636": false, "ldaps://dc:389": true, "ldaps://dc:3268": true,
		"ldap://dc:636": true, "ldap://dc:3269": true,
	} {
		t.Run(url, func(t *testing.T) {
			at, err := parseURL(url)
			if got := at.portAdvice(); err != nil || (got != "") != want {
				t.Errorf("%s: %q, %v", url, got, err)
			}
		})
	}
}

// TestHandshakeCancelled: the end of the caller's context is no error of the controller.
func TestHandshakeCancelled(t *testing.T) {
	for _, how := range []adsim.Unsafe{adsim.LDAPSilent, adsim.TLSSilent} {
		t.Run(string(how), func(t *testing.T) {
			s := adsim.StartUnsafe(t, how)
			ctx, cancel := context.WithCancel(t.Context())
			config := unsafeConfig(t, s, map[adsim.Unsafe]string{adsim.LDAPSilent: "ldaps",
				adsim.TLSSilent: "ldap"}[how])
			config.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				defer time.AfterFunc(10*time.Millisecond, cancel)
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			_, err := Dial(ctx, config)
			wantError(t, string(how), err, context.Canceled, "canceled")
			cancel()
		})
	}
}

// TestHandshakeText: of what no server here can be made to do.
func TestHandshakeText(t *testing.T) {
	for text, want := range map[string]string{
		"tls: server selected unsupported protocol version 302": "TLS 1.1 at most; " +
			"enable TLS 1.2 on it",
		"tls: server chose an unconfigured cipher suite":         "only RSA key exchange",
		"tls: certificate used with invalid signature algorithm": "allow SHA-256",
		"tls: failed to parse certificate from server: x509: malformed certificate": "cannot parse the certificate " +
			"of the controller; " +
			"issue it again",
		"tls: server sent certificate containing RSA key larger than 8192 bits":                   "too long",
		"tls: invalid signature by the server certificate: crypto/rsa: 512-bit keys are insecure": "too short",
	} {
		t.Run(text, func(t *testing.T) {
			if got := handshakeText(text); !bytes.Contains([]byte(got), []byte(want)) {
				t.Errorf("handshakeText(%q) = %q, want %q", text, got, want)
			}
		})
	}
	for _, alert := range []string{"unrecognized name", "internal error", "bad certificate",
		"insufficient security level", "something new"} {
		sent := &net.OpError{Op: "remote error", Err: errors.New("tls: " + alert)}
		name, ok := remoteAlert(sent)
		if words := alertText(name, "dc1"); !ok || words == "" || (alert == "something "+
			"new") != (words == alertText("x", "dc1")) {
			t.Errorf("%s: %q, %t", alert, words, ok)
		}
	}
}
