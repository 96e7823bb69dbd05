package logging

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLimited: the next line has the number of lines that were left out.
func TestLimited(t *testing.T) {
	var out bytes.Buffer
	l := NewLimited(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	l.limit.SetLimit(0)
	for range burst + 3 {
		l.Warn("trouble")
	}
	l.limit.SetLimit(1e9)
	l.Warn("trouble", "key", "value")
	l.Warn("trouble")
	want := strings.Repeat("level=WARN msg=trouble\n", burst) +
		"level=WARN msg=trouble key=value similar_left_out=3\nlevel=WARN msg=trouble\n"
	if got := out.String(); got != want {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
}
