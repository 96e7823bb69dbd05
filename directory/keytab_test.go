package directory

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"rcpt-milter/internal/files"
)

// entry writes one key of a keytab as MIT's kadmin does; wide 0 leaves the long version
// out.
func entry(principal string, version byte, wide uint32, etype uint16, key string) []byte {
	name, realm := splitPrincipal(principal)
	parts := strings.Split(name, "/")
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(parts)))
	b = text(b, realm)
	for _, p := range parts {
		b = text(b, p)
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, version) // kind, time
	b = text(binary.BigEndian.AppendUint16(b, etype), key)
	if wide > 0 {
		b = binary.BigEndian.AppendUint32(b, wide)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

var (
	key256 = strings.Repeat("k", 32)
	key128 = strings.Repeat("k", 16)
	hole   = []byte{0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4}
)

func keytabOf(entries ...[]byte) []byte { return append([]byte{5, 2}, bytes.Join(entries, nil)...) }

func TestKeysOf(t *testing.T) {
	const svc = "svc-mail@CORP.EXAMPLE"
	for _, tc := range []struct {
		name    string
		content []byte
		want    []int32 // encryption types
		version uint32
		words   string // of the error
	}{
		{"both", keytabOf(entry(svc, 2, 0, 17, key128), entry(svc, 2, 0, 18, key256)), []int32{18, 17}, 2, ""},
		{"another case", keytabOf(entry("SVC-Mail@corp.EXAMPLE", 2, 0, 18, key256)), []int32{18}, 2, ""},
		{"the newest", keytabOf(entry(svc, 3, 0, 18, key256), entry(svc, 2, 0, 17, key128),
			entry(svc, 2, 0, 18, key256)), []int32{18}, 3, ""},
		{"long version", keytabOf(entry(svc, 1, 257, 18, key256), entry(svc, 255, 0, 18, key256)), []int32{18}, 257,
			""},
		{"others too", keytabOf(entry("host/edge@CORP.EXAMPLE", 9, 0, 18, key256), hole,
			entry(svc, 1, 0, 17, key128)), []int32{17}, 1, ""},
		{"end in the middle", append(keytabOf(entry(svc, 1, 0, 18, key256)), 0, 0, 0, 0, 'x'), []int32{18}, 1, ""},
		{"RC4 only", keytabOf(entry(svc, 1, 0, 23, key128)), nil, 0, "not an AES key"},
		{"newer RC4", keytabOf(entry(svc, 1, 0, 18, key256), entry(svc, 2, 0, 23, key128)), nil, 0,
			"version 2) is not an AES key"},
		{"short key", keytabOf(entry(svc, 1, 0, 18, "short")), nil, 0, "not an AES key"},
		{"another principal", keytabOf(entry("host/edge@CORP.EXAMPLE", 9, 0, 18, key256)), nil, 0,
			"keys of host/edge@CORP.EXAMPLE"},
		{"nobody", keytabOf(), nil, 0, "keys of none"},
		{"empty", nil, nil, 0, "not a keytab"},
		{"text", []byte("not a keytab"), nil, 0, "not a keytab"},
		{"version 1", []byte{5, 1}, nil, 0, "not a keytab"},
		{"cut", keytabOf(entry(svc, 1, 0, 18, key256))[:40], nil, 0, "not a keytab"},
		{"cut hole", keytabOf(hole[:6]), nil, 0, "not a keytab"},
		{"more than there is", []byte{5, 2, 0x7f, 0xff, 0xff, 0xff, 1}, nil, 0, "not a keytab"},
		{"the smallest number", []byte{5, 2, 0x80, 0, 0, 0, 1}, nil, 0, "not a keytab"},
		{"huge", append(keytabOf(entry(svc, 1, 0, 18, key256)), make([]byte, files.MaxKeytab)...), nil, 0,
			"is larger than 1024 KiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "svc.keytab")
			ok(t, os.WriteFile(path, tc.content, 0o600))
			keys, err := readKeys(path, svc)
			if tc.words != "" {
				wantError(t, tc.name, err, ErrConfig, tc.words)
				if strings.Contains(err.Error(), "kkkk") {
					t.Errorf("the error shows a key: %v", err)
				}
				return
			}
			var got []int32
			for _, k := range keys {
				got = append(got, k.key.KeyType)
			}
			if err != nil || !slices.Equal(got, tc.want) || keys[0].version != tc.version {
				t.Errorf("keys %v, version %d, %v, want %v of version %d", got, keys[0].version, err, tc.want,
					tc.version)
			}
		})
	}
}

func FuzzParseKeytab(f *testing.F) {
	f.Add(keytabOf(entry("svc-mail@CORP.EXAMPLE", 2, 300, 18, key256), hole, entry("host/edge@X", 1, 0, 17, key128)))
	f.Add([]byte{5, 2, 0x80, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, ok := parseKeytab(b)
		if !ok && len(keys) > 0 {
			t.Errorf("keys of a damaged file: %v", keys)
		}
		selectKeys(keys, "path", "svc-mail@CORP.EXAMPLE")
	})
}

// goodAnswers is one message of each kind.
func goodAnswers(f *testing.F) [][]byte {
	f.Helper()
	keys, err := realmKeys()
	if err != nil {
		f.Fatal(err)
	}
	r := &realm{keys: keys}
	q := messages.KDCReqBody{CName: types.NewPrincipalName(1, "svc-mail"), SName: types.NewPrincipalName(2, service)}
	var as messages.ASRep
	as.MsgType = 11
	var tgs messages.TGSRep
	tgs.MsgType = 13
	out := [][]byte{tokenOf(0x0200, []byte{0x6f, 2, 0x30, 0}),
		append([]byte{5, 4, 1, 0xff, 0, 12, 0, 28}, make([]byte, 40)...)}
	for _, make := range []func() ([]byte, error){
		func() ([]byte, error) { return r.refusal(24) },
		func() ([]byte, error) { return r.reply(&as.KDCRepFields, q, keys.Entries[0].Key, 3, as.Marshal) },
		func() ([]byte, error) { return r.reply(&tgs.KDCRepFields, q, keys.Entries[0].Key, 8, tgs.Marshal) },
	} {
		message, err := make()
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, message)
	}
	return out
}

// FuzzKerberosAnswers feeds what arrives over a port that nothing protects to all that
// reads it.
func FuzzKerberosAnswers(f *testing.F) {
	for _, message := range goodAnswers(f) {
		f.Add(message)
	}
	key := keytabKey{principal: "svc-mail@CORP.EXAMPLE", version: 1}
	key.key.KeyType, key.key.KeyValue = 18, []byte(key256)
	f.Fuzz(func(t *testing.T, b []byte) {
		k := &kdc{keys: []keytabKey{key}}
		var as messages.ASRep
		if as.Unmarshal(b) == nil {
			k.decryptReply(as.KDCRepFields, key.key, keyusage.AS_REP_ENCPART, 0)
		}
		var tgs messages.TGSRep
		if tgs.Unmarshal(b) == nil {
			k.decryptReply(tgs.KDCRepFields, key.key, keyusage.TGS_REP_ENCPART_SESSION_KEY, 0)
		}
		var refusal messages.KRBError
		if refusal.Unmarshal(b) == nil {
			k.krbError(refusal)
		}
		n := &gssapiClient{ticket: ticket{key: key.key}, key: key.key, authenticated: true}
		if n.verifyReply(b) == nil {
			t.Error("a forged proof is accepted")
		}
		if _, err := n.NegotiateSaslAuth(b, ""); err == nil {
			t.Error("a forged offer is accepted")
		}
	})
}
