package stream

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"rcpt-milter/address"
)

// FuzzReadReport: the report of an edge, which any enrolled host may have written, is readable text of a
// bounded size, names the subject that it is on, and keeps its meaning.
func FuzzReadReport(f *testing.F) {
	for _, seed := range []string{`{"name":"mx1","version":"0.9.0","state":"fresh","generation":"ab","sequence":7,` +
		`"digest_ok":true,"held":3,"addresses":5,"lag":1000000,"error":"none"}`, `{"name":"mx2"}`, `{"name":"mx1"}{}`,
		`{"name":"mx1","error":"\u001b[2J"}`, `{"name":"mx1","lag":-1,"held":-1,"age":-1}`, `null`, `[]`, "\xff",
		`{"name":"mx1","sequence":18446744073709551616}`, `{"NAME":"mx1","name":null}`} {
		f.Add("mx1", []byte(seed))
	}
	f.Add("a=b", []byte(`{"name":"a.b"}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r, ok := readReport(name, data)
		if !ok {
			return
		}
		for _, text := range []string{r.Name, r.Version, r.State, r.Generation, r.Error} {
			if len(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) {
				t.Fatalf("%q of %q", text, data)
			}
		}
		if token(r.Name) != name {
			t.Fatalf("the report of %q is on the subject of %q", r.Name, name)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, ok := readReport(name, again); len(again) <= maxPayload && (!ok || back != r) {
			t.Fatalf("%+v, then %+v", r, back)
		}
	})
}

// FuzzQuestion: whatever an edge asks, only a canonical address reaches the directory, and the answer to
// anything else is an error.
func FuzzQuestion(f *testing.F) {
	for _, seed := range []string{`{"address":"ann@corp.example"}`, `{"address":"\"a b\"@X.EXAMPLE"}`, `{"address":""}`,
		`{"address":"*)(mail=*@corp.example"}`, `{"address":"a\u0000@b"}`, `{}`, `"a@b"`, `null`, "{\xff}"} {
		f.Add([]byte(seed))
	}
	errDirectory := errors.New("no controller")
	f.Fuzz(func(t *testing.T, data []byte) {
		asked := 0
		p := &Publisher{config: PublisherConfig{Find: func(_ context.Context, a address.Address) (bool, bool, error) {
			asked++
			if again, err := address.Parse(a.String()); err != nil || again != a {
				t.Fatalf("%q asks for %q, which reads as %q, %v", data, a, again, err)
			}
			return false, false, errDirectory
		}}}
		got, err := p.find(t.Context(), data)
		if err == nil || got.Found || asked > 1 || errors.Is(err, errDirectory) != (asked == 1) {
			t.Fatalf("%q: %+v, %v, %d searches", data, got, err, asked)
		}
	})
}
