package logging

import (
	"bytes"
	"testing"
)

// TestProbeAfterClose: a probe that comes after the end of the log is not written as traffic.
func TestProbeAfterClose(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "x", Options{})
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run() }()
	l.Close()
	<-ended
	l.Logger().Log(t.Context(), LevelProbe, "rcpt")
	if out.Len() > 0 {
		t.Errorf("written: %q", out.String())
	}
}
