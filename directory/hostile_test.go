package directory

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

// allocated returns the bytes that this process allocates while a function runs, the simulated
// controller included.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileStartTLSAnswer: an attacker on the path needs no certificate to send one. The nested
// answer of 70 KB took 147 MB when the BER library decoded it, and one of 6 MB took 6 GB.
func TestHostileStartTLSAnswer(t *testing.T) {
	adsim.Nested()
	for _, how := range []adsim.Unsafe{adsim.NestedAnswer, adsim.LongAnswer} {
		t.Run(string(how), func(t *testing.T) {
			s := adsim.StartUnsafe(t, how)
			config := unsafeConfig(t, s, "ldap")
			var err error
			size := allocated(func() { _, err = Dial(t.Context(), config) })
			wantError(t, string(how), err, ErrProtocol, "StartTLS: the answer is longer than 4096 bytes")
			if size > 1<<20 {
				t.Errorf("%d bytes allocated", size)
			}
		})
	}
}

// encode encodes an element with a length of four bytes.
func encode(tag byte, contents ...string) string {
	content := strings.Join(contents, "")
	return string(binary.BigEndian.AppendUint32([]byte{tag, 0x84}, uint32(len(content)))) + content
}

// nested encodes an element within a number of others.
func nested(inner string, levels int) string {
	for range levels {
		inner = encode(0x30, inner)
	}
	return inner
}

// reply encodes an operation with the ID of a message of the controller.
func reply(r adsim.Raw, op string) []byte {
	start := bytes.Index(r.Message, []byte("\x02\x01"))
	return []byte(encode(ldapMessage, string(r.Message[start:start+3]), op))
}

// searchEntry encodes a search entry with one attribute.
func searchEntry(values ...string) string {
	return encode(tagSearchEntry, encode(tagOctetString, "CN=x"),
		encode(0x30, encode(0x30, encode(tagOctetString, "objectClass"), encode(0x31, values...))))
}

// TestHostileMessages: an authenticated controller, or an attacker with its certificate, exhausts
// no memory either.
func TestHostileMessages(t *testing.T) {
	tiny := strings.Repeat("\x04\x00", 1<<20)
	for name, tc := range map[string]struct {
		answer func(adsim.Raw) string // an operation
		repeat int
		words  string
	}{
		"nested": {func(adsim.Raw) string {
			return strings.Repeat("\x30\x82\x40\x00", 20) + strings.Repeat("x", 1<<14)
		}, 0, "not LDAP"},
		"nested, properly": {func(adsim.Raw) string { return nested(encode(tagOctetString), 15) }, 0, "16 levels deep"},
		"nested in an entry": {func(adsim.Raw) string { return searchEntry(string(adsim.Nested()[6*900:])) }, 0,
			"16 levels deep"},
		"many elements": {func(adsim.Raw) string { return searchEntry(tiny) }, 0, "more than 65536 elements"},
		"a huge entry": {func(adsim.Raw) string { return searchEntry(strings.Repeat("x", maxMessage)) }, 0,
			"4194304 are allowed"},
		"a huge operation": {func(adsim.Raw) string { return encode(0x65, strings.Repeat("x", 100_000)) }, 0,
			"65536 are allowed"},
		"nested control": {func(adsim.Raw) string {
			return searchEntry() + encode(0xa0, encode(0x30, encode(tagOctetString, "1.2.840.113556.1.4.319"),
				encode(tagOctetString, string(adsim.Nested()[6*100:]))))
		}, 0, "65536 are allowed"},
		"not definite": {func(adsim.Raw) string { return "\x64\x80\x00\x00" }, 0, "not LDAP"},
		"longer than announced": {func(adsim.Raw) string { return "\x64\x10\x04\x7f" + strings.Repeat("x", 14) }, 0,
			"not LDAP"},
		"long tag":    {func(adsim.Raw) string { return "\x7f\x64\x00" }, 0, "not LDAP"},
		"two entries": {func(adsim.Raw) string { return searchEntry() }, 1, "more entries than were requested"},
		"400 MiB of one object": {func(adsim.Raw) string {
			return searchEntry(encode(tagOctetString, strings.Repeat("x", 1<<20)))
		}, 400, "more entries than were requested"},
		"400 MiB of other operations": {func(adsim.Raw) string {
			return encode(0x73, encode(tagOctetString, strings.Repeat("x", 65_000)))
		}, 6400, "too long; it may have 256 MiB for a page and 4 MiB for an object"},
	} {
		t.Run(name, func(t *testing.T) {
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			c, s := connect(t, d, adsim.ServerConfig{}, nil)
			var prepared []byte
			s.SetFaults(adsim.Faults{Repeat: tc.repeat, Tamper: func(r adsim.Raw) []byte {
				if prepared == nil {
					prepared = reply(r, tc.answer(r))
				}
				return prepared
			}})
			var err error
			size := allocated(func() { _, err = c.Root(t.Context()) })
			wantError(t, name, err, ErrProtocol, tc.words)
			if size > 64<<20 {
				t.Errorf("%d MiB allocated", size>>20)
			}
			_, err = c.Root(t.Context())
			wantError(t, name+", afterwards", err, ErrProtocol, tc.words)
		})
	}
}

// TestLargeObjects: nothing legitimate is beyond a limit.
func TestLargeObjects(t *testing.T) {
	const objects, values = 20, 5000
	d := adsim.NewDirectory(adsim.DirectoryConfig{})
	local := strings.Repeat("x", 280)
	for o := range objects {
		var addresses []string
		for v := range values {
			addresses = append(addresses, fmt.Sprintf("%s%d.%d@corp.example", local, o, v))
		}
		add(t, d, adsim.Group, fmt.Sprintf("CN=g%d,CN=Users,%s", o, base), addresses...)
	}
	for _, limit := range []int{1500, values, 10 * values} { // Active Directory 2003 and 2008; Samba has none
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			c, _ := connect(t, d, adsim.ServerConfig{MaxValRange: limit}, nil)
			all, err := readAll(t.Context(), c, 0)
			if err != nil || len(owners(all)) != objects*values {
				t.Errorf("%d addresses, %v", len(owners(all)), err)
			}
		})
	}
}

// TestHostileRanges: an attribute has an end, even if every answer announces more values.
func TestHostileRanges(t *testing.T) {
	for name, tc := range map[string]struct {
		values, length, each int
		words                string
	}{
		"values": {70_000, 10, 5000, "more than 65536 values"},
		"bytes":  {340, 100_000, 35, "more than 32 MiB of values"},
	} {
		t.Run(name, func(t *testing.T) {
			d := adsim.NewDirectory(adsim.DirectoryConfig{})
			var addresses []string
			for n := range tc.values {
				addresses = append(addresses, fmt.Sprintf("%0*d@corp.example", tc.length, n))
			}
			add(t, d, adsim.Group, "CN=g,CN=Users,"+base, addresses...)
			c, _ := connect(t, d, adsim.ServerConfig{MaxValRange: tc.each}, nil)
			_, err := readAll(t.Context(), c, 0)
			wantError(t, name, err, ErrProtocol, tc.words)
		})
	}
}

// TestHostileKerberosAnswer: it arrives in clear too. The library allocates an element of a list for
// every two bytes: 18 MB for the largest answer.
func TestHostileKerberosAnswer(t *testing.T) {
	der := func(class, tag int, content string) string {
		return string(must[[]byte](t)(asn1.Marshal(
			asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: []byte(content)})))
	}
	list := func(element string) string {
		return der(asn1.ClassUniversal, asn1.TagSequence, strings.Repeat(element, maxTicket/2-100))
	}
	context := func(tag int, content string) string { return der(asn1.ClassContextSpecific, tag, content) }
	kerberos := func(tag int, content string) string {
		return der(asn1.ClassApplication, tag, der(asn1.ClassUniversal, asn1.TagSequence, content))
	}
	for name, answer := range map[string]string{
		"many elements": kerberos(11, context(0, "\x02\x01\x05")+context(1, "\x02\x01\x0b")+
			context(2, list("\x30\x00"))),
		"many names": kerberos(11, context(0, "\x02\x01\x05")+context(1, "\x02\x01\x0b")+context(3, "\x1b\x01X")+
			context(4, der(asn1.ClassUniversal, asn1.TagSequence,
				context(0, "\x02\x01\x01")+context(1, list("\x1b\x00"))))),
		"nested": string(adsim.Nested()),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t)
			framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)
			r.garble = func(int, []byte) []byte { return framed }
			s := adsim.StartTest(t, adsim.NewDirectory(adsim.DirectoryConfig{}), adsim.ServerConfig{Accept: r.accept})
			config := r.config(s)
			var err error
			size := allocated(func() { _, err = Dial(t.Context(), config) })
			wantError(t, name, err, ErrProtocol, "cannot read the answer")
			if size > 64<<20 {
				t.Errorf("%d MiB allocated", size>>20)
			}
		})
	}
}
