package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/internal/clock"
	"rcpt-milter/store"
)

func itoa(n int) string { return strconv.Itoa(n) }

func parse(t testing.TB, text string) address.Address {
	t.Helper()
	a, err := address.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// bound returns a message of version 1 that names its subject, as a hub publishes it.
func bound(guid store.GUID, data string) string {
	subject := `{"v":1,"subject":"` + objectSubject("corp", guid) + `"`
	return strings.NewReplacer(`{"v":1,`, subject+",", `{"v":1}`, subject+"}").Replace(data)
}

func TestObjectMessages(t *testing.T) {
	guid := store.GUID{1, 2, 3}
	many := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"a%d@x.example"`, i))
		}
		return bound(guid, `{"v":1,"addresses":{"mail":[`+strings.Join(list, ",")+`]}}`)
	}
	tests := []struct {
		name, data string
		want       []string // addresses; nil with bad
		bad        string
	}{
		{"tombstone", `{"v":1}`, []string{}, ""},
		{"addresses",
			`{"v":1,"addresses":{"mail":["a@x.example"],"proxyaddresses":["b@x.example"]},"internal":["b@x.example"]}`,
			[]string{"mail a@x.example false", "proxyaddresses b@x.example true"}, ""},
		{"unknown field", `{"v":1,"later":{"x":[1]},"addresses":{"mail":["a@x.example"]}}`,
			[]string{"mail a@x.example false"}, ""},
		{"many addresses", many(10_000), nil, ""},
		{"too many addresses", compressed(t, many(maxAddresses+1)), nil, "more than"},
		{"empty", ``, nil, "unexpected end"},
		{"no version", `{}`, nil, "its version is 0"},
		{"later version", `{"v":2,"addresses":{"mail":["a@x.example"]}}`, nil, "upgrade rcpt-milter"},
		{"too large to publish", `{"v":1,"too_large":true}`, nil, "too large to be published"},
		{"large and compressed", compressed(t, many(maxAddresses)), nil, ""},
		{"compressed and broken", compressed(t, many(maxAddresses))[:100], nil, "unexpected EOF"},
		{"compressed without end", compressed(t, strings.Repeat(" ", maxPlain+1)), nil, "expands to more"},
		{"two objects", `{"v":1}{"v":1}`, nil, "after top-level value"},
		{"other type", `[1]`, nil, "cannot unmarshal"},
		{"addresses of another type", `{"v":1,"addresses":["a@x.example"]}`, nil, "cannot unmarshal"},
		{"no address", `{"v":1,"addresses":{"mail":["nothing"]}}`, nil, "no @"},
		{"not canonical", `{"v":1,"addresses":{"mail":["A@x.example"]}}`, nil, "canonical"},
		{"twice", `{"v":1,"addresses":{"mail":["a@x.example"],"x":["a@x.example"]}}`, nil, "twice"},
		{"internal without owner", `{"v":1,"internal":["a@x.example"]}`, nil, "not among"},
		{"not UTF-8", "{\"v\":1,\"class\":\"\xff\"}", nil, "UTF-8"},
		{"control characters", `{"v":1,"class":"a\u0007"}`, nil, "control"},
		{"attribute without name", `{"v":1,"addresses":{"":["a@x.example"]}}`, nil, "attribute"},
		{"too long", `{"v":1,"x":"` + strings.Repeat("x", maxPayload) + `"}`, nil, "more than"},
	}
	for _, tt := range tests {
		if !strings.HasPrefix(tt.data, string(gzipMagic)) {
			tt.data = bound(guid, tt.data)
		}
		t.Run(tt.name, func(t *testing.T) {
			o, err := decodeObject("corp", guid, []byte(tt.data))
			if tt.bad != "" {
				if !errors.Is(err, errPayload) || !strings.Contains(err.Error(), tt.bad) {
					t.Fatalf("error %v, want one about %q", err, tt.bad)
				}
				return
			}
			if err != nil || o.GUID != guid {
				t.Fatal(o.GUID, err)
			}
			if tt.want == nil {
				return
			}
			got := []string{}
			for _, a := range o.Addresses {
				got = append(got, fmt.Sprint(a.Attribute, " ", a.Address, " ", a.InternalOnly))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("addresses %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLostAddressTravels checks that an address which its object has lost, and which has no attribute, can be
// decoded.
func TestLostAddressTravels(t *testing.T) {
	for _, attribute := range []string{"", "mail"} {
		t.Run(attribute, func(t *testing.T) {
			o := store.FeedObject{GUID: store.GUID{1}, Class: "user", Addresses: []store.FeedAddress{
				{Address: parse(t, "kept@corp.example"), Attribute: attribute},
				{Address: parse(t, "lost@corp.example"), InternalOnly: true}}}
			data, err := encodeObject("corp", o, false, maxPayload)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeObject("corp", o.GUID, data)
			if err != nil || len(got.Addresses) != len(o.Addresses) {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

func TestStateMessages(t *testing.T) {
	good := state{Generation: directory.GUID{1}, Mark: "m", Term: "t", Hub: "hub1", Version: "1.2", Controller: "dc1",
		Age: 1500 * time.Millisecond, Pass: 7, Sequence: 9, Digest: store.Digest{Sum: [16]byte{2}, Objects: 3,
			Addresses: 4}}
	tests := []struct {
		name string
		from func(*state)
		data func(string) string
		bad  bool
	}{
		{name: "state"},
		{name: "unknown age", from: func(s *state) { s.Age, s.AgeUnknown = 0, true }},
		{name: "unknown field", data: func(s string) string { return strings.Replace(s, "{", `{"later":1,`, 1) }},
		{name: "no mark", data: func(s string) string { return strings.Replace(s, `"mark":"m"`, `"mark":""`, 1) },
			bad: true},
		{name: "later version", data: func(s string) string { return strings.Replace(s, `"v":1`, `"v":2`, 1) },
			bad: true},
		{name: "negative age",
			data: func(s string) string { return strings.Replace(s, `"age_s":1.5`, `"age_s":-1`, 1) }, bad: true},
		{name: "endless age",
			data: func(s string) string { return strings.Replace(s, `"age_s":1.5`, `"age_s":1e300`, 1) }, bad: true},
		{name: "no generation", from: func(s *state) { s.Generation = directory.GUID{} }, bad: true},
		{name: "short digest",
			data: func(s string) string { return strings.Replace(s, `"digest":"02`, `"digest":"`, 1) }, bad: true},
		{name: "a copy", data: func(s string) string { return strings.Replace(s, `"sequence":9`, `"sequence":8`, 1) },
			bad: true},
		{name: "no sequence", data: func(s string) string { return strings.Replace(s, `"sequence":9,`, ``, 1) },
			bad: true},
		{name: "another directory",
			data: func(s string) string { return strings.Replace(s, "rcpt.corp.", "rcpt.lab.", 1) }, bad: true},
		{name: "an object", data: func(s string) string { return strings.Replace(s, ".state", ".o.01", 1) }, bad: true},
		{name: "long text", from: func(s *state) { s.Hub = strings.Repeat("x", maxText+1) }, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := good
			if tt.from != nil {
				tt.from(&s)
			}
			data, err := s.encode("corp")
			if err != nil {
				t.Fatal(err)
			}
			text := string(data)
			if tt.data != nil {
				if text = tt.data(text); text == string(data) {
					t.Fatalf("the change has no effect on %s", text)
				}
			}
			got, err := decodeState("corp", 9, []byte(text))
			if tt.bad {
				if !errors.Is(err, errPayload) {
					t.Fatalf("error %v of %s", err, text)
				}
				return
			}
			if err != nil || got != s {
				t.Errorf("%+v, want %+v; error %v", got, s, err)
			}
		})
	}
}

func TestAgeOfAState(t *testing.T) {
	for _, tt := range []struct {
		name  string
		s     state
		since time.Duration
		want  time.Duration
	}{
		{"adds", state{Age: time.Minute}, time.Second, 61 * time.Second},
		{"server corrected", state{Age: time.Minute}, -clock.Slack, time.Minute},
		{"server set back", state{Age: time.Minute}, -clock.Slack - 1, unknownAge},
		{"unknown", state{AgeUnknown: true}, 0, unknownAge},
		{"overflow", state{Age: math.MaxInt64}, time.Hour, unknownAge},
		{"limit", state{Age: unknownAge}, time.Hour, unknownAge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.s.agedBy(tt.since); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzDecodeObject checks that a decoded object can be encoded and decoded again without change.
func FuzzDecodeObject(f *testing.F) {
	guid := store.GUID{7}
	for _, seed := range []string{`{"v":1}`, `{"v":1,"class":"user","dn":"CN=a","addresses":{"mail":["a@x.example"]},` +
		`"internal":["a@x.example"]}`, `{"v":2}`, `{"v":1,"addresses":{"mail":["A@x.example","\"a b\"@x.example"]}}`,
		`{}{}`} {
		f.Add([]byte(bound(guid, seed)))
	}
	f.Add([]byte(compressed(f, bound(guid, `{"v":1,"addresses":{"mail":["a@x.example"]}}`))))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeObject("corp", guid, data)
		if err != nil {
			if !errors.Is(err, errPayload) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, err := encodeObject("corp", o, true, maxPayload)
		if err != nil {
			if len(data) < maxPayload/6 { // JSON may escape each byte
				t.Fatal(err)
			}
			return
		}
		back, err := decodeObject("corp", guid, again)
		if err != nil || !reflect.DeepEqual(back, o) {
			t.Fatalf("%+v, then %+v: %v", o, back, err)
		}
	})
}

func compressed(t testing.TB, text string) string {
	t.Helper()
	data, err := compress([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestMessagesSayWhereTheyBelong decodes genuine messages on other subjects. They must be rejected.
func TestMessagesSayWhereTheyBelong(t *testing.T) {
	guid, other := store.GUID{1}, store.GUID{2}
	for name, o := range map[string]store.FeedObject{
		"addresses": {GUID: guid,
			Addresses: []store.FeedAddress{{Address: parse(t, "a@x.example"), Attribute: "mail"}}},
		"tombstone": {GUID: guid},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := encodeObject("corp", o, true, maxPayload)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeObject("corp", guid, data); err != nil {
				t.Error(err)
			}
			if _, err := decodeObject("corp", other, data); !errors.Is(err, errPayload) {
				t.Errorf("as another object: error %v", err)
			}
			if _, err := decodeObject("lab", guid, data); !errors.Is(err, errPayload) {
				t.Errorf("in another directory: error %v", err)
			}
		})
	}
}

// TestLargeObjectsTravel encodes and decodes an object with the maximum number of addresses.
func TestLargeObjectsTravel(t *testing.T) {
	o := store.FeedObject{GUID: store.GUID{1}}
	for i := range maxAddresses {
		o.Addresses = append(o.Addresses, store.FeedAddress{Attribute: "proxyaddresses",
			Address: parse(t, fmt.Sprintf("firstname.lastname.%d@subsidiary.corp.example", i))})
	}
	data, err := encodeObject("corp", o, false, maxPayload)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := decodeObject("corp", o.GUID, data); err != nil || !reflect.DeepEqual(back, o) {
		t.Fatalf("%d addresses, error %v", len(back.Addresses), err)
	}
	o.Addresses = append(o.Addresses, store.FeedAddress{Address: parse(t, "one@more.example"), Attribute: "mail"})
	if _, err := encodeObject("corp", o, false, maxPayload); err == nil ||
		!strings.Contains(err.Error(), "the limit is 100000") {
		t.Errorf("error %v", err)
	}
}

// FuzzDecodeState checks that a decoded state is within bounds and survives encoding.
func FuzzDecodeState(f *testing.F) {
	s := state{Generation: directory.GUID{1}, Mark: "m", Hub: "h", Age: time.Second, Sequence: 9}
	data, err := s.encode("corp")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Replace(data, []byte(`"age_s":1`), []byte(`"age_s":null`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState("corp", 9, data)
		if err != nil {
			if !errors.Is(err, errPayload) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if s.Age < 0 || s.Age > unknownAge || s.Generation.IsZero() {
			t.Fatalf("out of bounds: %+v", s)
		}
		again, err := s.encode("corp")
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeState("corp", 9, again)
		back.Age = s.Age // float64 may round
		if err != nil || back != s {
			t.Fatalf("%+v, then %+v: %v", s, back, err)
		}
	})
}

func TestSubjects(t *testing.T) {
	guid := store.GUID{0xab, 15: 1}
	for _, dir := range []string{"corp", "corp.example", "A_b-c"} {
		t.Run(dir, func(t *testing.T) {
			subject := objectSubject(dir, guid)
			if got, ok := guidOf(dir, subject); !ok || got != guid {
				t.Errorf("%s: %v %v", subject, got, ok)
			}
			if strings.Count(subject, ".") != 3 || strings.ContainsAny(streamName(dir), ".*> ") {
				t.Errorf("subject %s, stream %s", subject, streamName(dir))
			}
			for _, bad := range []string{subject + "0", subject[:len(subject)-1], strings.ToUpper(subject),
				stateSubject(dir), "rcpt.other.o." + subject[len(subject)-32:], objectSubject(dir, store.GUID{})} {
				if _, ok := guidOf(dir, bad); ok {
					t.Errorf("%s is accepted as an object", bad)
				}
			}
		})
	}
}

// TestNamesTravel checks that no name of an object makes its message unreadable. Otherwise an edge would defer
// all unknown recipients for as long as the object has that name.
func TestNamesTravel(t *testing.T) {
	for _, tt := range []struct{ name, dn, class string }{
		{"tab", "CN=Ann\tLee,DC=corp,DC=example", "user"},
		{"C1 control character", "CN=Ann\u0085Lee,DC=corp,DC=example", "user"},
		{"long", "CN=Ann" + strings.Repeat(",OU=ü", maxText) + ",DC=corp", "user"},
		{"not UTF-8", "CN=\xff", "user"},
		{"class", "CN=Ann", "us\u0007er"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := store.FeedObject{GUID: store.GUID{1}, Class: tt.class, DN: tt.dn,
				Addresses: []store.FeedAddress{{Address: parse(t, "ann@corp.example"), Attribute: "mail"}}}
			at := term{p: &Publisher{config: PublisherConfig{Directory: "corp", Names: true}}}
			m, err := at.message(o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeObject("corp", o.GUID, m.data)
			if err != nil || len(got.Addresses) != 1 || !strings.HasPrefix(got.DN, "CN=") {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}
