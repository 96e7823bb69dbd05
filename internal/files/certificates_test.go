package files

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// serial is that of certificates made here: a pattern that is found again in their DER form.
var serial = bytes.Repeat([]byte{0x55}, 12)

// der makes a certificate.
func der(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func inPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificates(t *testing.T) {
	one, other := der(t), der(t)
	// its signature is not looked at
	negative := bytes.Replace(der(t), serial, bytes.Repeat([]byte{0xaa}, len(serial)), 1)
	for _, c := range []struct {
		name, content string
		want          int
		problem       string
	}{
		{"two", "# a comment\n" + inPEM(one) + "\n" + inPEM(other), 2, ""},
		{"behind a byte order mark", "\ufeff" + inPEM(one), 1, ""},
		{"with a key beside it", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n" + inPEM(one),
			1, ""},
		{"none", "hello", 0, "has no certificate in PEM form"},
		{"empty", "", 0, "has no certificate in PEM form"},
		{"DER", string(one), 0, "is a certificate in DER form, and PEM is expected; convert it: openssl x509 " +
			"-inform der -in"},
		{"UTF-16", wide(inPEM(one), false), 0, "is in UTF-16"},
		{"damaged", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", 0, "has a certificate that " +
			"cannot be read: x509: malformed certificate"},
		{"a negative serial number", inPEM(negative), 0, "its serial number must be positive (RFC 5280 section " +
			"4.1.2.2)"},
		{"a negative serial number among others", inPEM(one) + inPEM(negative) + inPEM(other), 2, "its serial number " +
			"must be positive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "ca.crt", c.content)
			all, err := Certificates(path)
			if len(all) != c.want || (err == nil) != (c.problem == "") {
				t.Fatalf("%d certificates, %v, want %d, %q", len(all), err, c.want, c.problem)
			}
			if err == nil {
				return
			}
			if text := err.Error(); !strings.HasPrefix(text, "the CA file "+path+" ") ||
				!strings.Contains(text, c.problem) {
				t.Errorf("error %q, want %q", err, c.problem)
			}
		})
	}
}
