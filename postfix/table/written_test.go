package table

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestEachKey: what a Writer writes is read back in full and in order, whatever the keys are.
func TestEachKey(t *testing.T) {
	keys := []string{"ann@x.example", `"john doe"@x.example`, "*@x.example", `"smtp:ann"@x.example`, "a@xn--.example",
		"jürgen@xn--mnchen-3ya.example", "@xn--mnchen-3ya.example", "/x/@y.example", "@x.example"}
	var out strings.Builder
	w := NewWriter(&out)
	w.Comment("a comment\n")
	for _, key := range keys {
		w.Add(key)
	}
	w.Comment("9 entries.")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := EachKey(strings.NewReader(out.String()), func(key string) error {
		got = append(got, key)
		return nil
	}); err != nil || !slices.Equal(got, keys) {
		t.Errorf("EachKey: %q, %v, want %q", got, err, keys)
	}
	enough := errors.New("enough")
	if err := EachKey(strings.NewReader(out.String()), func(string) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("EachKey does not end with its visitor: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("a@x.example\tOK\n"), errorReader{})
	if err := EachKey(broken, func(string) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("EachKey of a broken reader: %v", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestEachKeyIsStrict: a line that no Writer writes is an error.
func TestEachKeyIsStrict(t *testing.T) {
	for name, line := range map[string]string{
		"no value": "ann@x.example", "no value at the end": "ann@x.example\t", "another value": "ann@x.example\tDUNNO",
		"spaces": "ann@x.example  OK", "an alias": "@x.example\t@y.example", "no address": "ann\tOK",
		"no domain":     "@\tOK",
		"an open quote": `"ann@x.example` + "\tOK", "a first space": " ann@x.example\tOK",
		"a continued value": "ann@x.example\tOK\n OK", "too long": strings.Repeat("a", keptOfLine) + "@x.example\tOK",
		"not UTF-8": "\xff@x.example\tOK", "a null byte": "a\x00@x.example\tOK",
	} {
		t.Run(name, func(t *testing.T) {
			if err := EachKey(strings.NewReader(line+"\n"), func(string) error { return nil }); err == nil {
				t.Errorf("EachKey reads %q", line)
			}
		})
	}
}
