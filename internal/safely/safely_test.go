package safely

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestDo(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		name     string
		do       func() error
		want     error
		panicked string // the value of the panic, in the log
	}{
		{"success", func() error { return nil }, nil, ""},
		{"error", func() error { return failed }, failed, ""},
		{"panic with a string", func() error { panic("out of range") }, ErrPanic, "out of range"},
		{"panic with an error", func() error { panic(failed) }, ErrPanic, "failed"},
		{"panic of the runtime", func() error { return (*strings.Reader)(nil).UnreadByte() }, ErrPanic,
			"runtime error: invalid memory address or nil pointer dereference"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text bytes.Buffer
			err := Do(slog.New(slog.NewJSONHandler(&text, nil)), "pass", c.do)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if c.panicked == "" {
				if text.Len() > 0 {
					t.Errorf("logged without a panic: %s", &text)
				}
				return
			}
			var got struct{ Level, Msg, In, Panic, Stack string }
			if err := json.Unmarshal(text.Bytes(), &got); err != nil {
				t.Fatalf("%v in %q", err, &text)
			}
			if got.Level != "ERROR" || got.Msg != "panic" || got.In != "pass" || got.Panic != c.panicked {
				t.Errorf("logged %+v", got)
			}
			if !strings.Contains(got.Stack, "safely_test.go") {
				t.Errorf("the stack does not name the function that panicked: %s", got.Stack)
			}
			if !strings.HasPrefix(err.Error(), "pass: ") || !strings.HasSuffix(err.Error(), c.panicked) {
				t.Errorf("error %q names neither the task nor the panic", err)
			}
		})
	}
}
