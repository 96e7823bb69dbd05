package engine

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// enrolment returns an enrolment whose authority certificate is encoded as the given line.
func enrolment(t testing.TB, line string) Enrolment {
	t.Helper()
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		t.Fatal(err)
	}
	return Enrolment{Name: "mx1", Role: Edge, URLs: []string{"tls://mx1.example:4222", "tls://[::1]:4222"},
		Directories: []string{"corp", "lab.example"}, Seed: string(seed), CA: encodeCertificate(der)}
}

// TestParseEnrolment checks that ParseEnrolment reads what File writes, even if a line of the certificate looks
// like a seed, and after a change of line endings.
func TestParseEnrolment(t *testing.T) {
	for name, line := range map[string]string{"plain": "MIIB", "like a seed": "SUAA", "like a comment": "IyMj"} {
		t.Run(name, func(t *testing.T) {
			want := enrolment(t, line)
			for _, data := range []string{string(want.File()), strings.ReplaceAll(string(want.File()), "\n", "\r\n")} {
				if got, err := ParseEnrolment([]byte(data)); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%+v, error %v, want %+v", got, err, want)
				}
			}
		})
	}
}

func FuzzParseEnrolment(f *testing.F) {
	f.Add([]byte("# name: mx1\n# role: edge\n# urls: tls://a:1\n# directories: corp\nSUA\n-----BEGIN " +
		"CERTIFICATE-----\n"))
	f.Add(enrolment(f, "SUAA").File())
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := ParseEnrolment(data)
		if err != nil {
			return
		}
		if again, err := ParseEnrolment(n.File()); err != nil || !reflect.DeepEqual(again, n) {
			t.Errorf("reads %+v, and again %+v, error %v", n, again, err)
		}
	})
}
