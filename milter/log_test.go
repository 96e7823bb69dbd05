package milter

import (
	"bytes"
	"log"
	"strings"
	"testing"
)

func TestBridgeLog(t *testing.T) {
	var plain bytes.Buffer
	output, flags := log.Writer(), log.Flags()
	log.SetOutput(&plain)
	log.SetFlags(0)
	defer func() { log.SetOutput(output); log.SetFlags(flags) }()

	buffer := newLogBuffer()
	restore := BridgeLog(buffer.logger(0))
	for range 100 {
		log.Printf("panic handling command: %v\n%s", "\x1b", "goroutine 1")
	}
	restore()
	log.Print("as before")
	lines := strings.Split(strings.TrimSpace(buffer.String()), "\n")
	want := `level=WARN msg=library detail="panic handling command: \\x1b\\ngoroutine 1"`
	if len(lines) < 10 || len(lines) > 50 || lines[0] != want {
		t.Errorf("%d lines, the first %s, want %s", len(lines), lines[0], want)
	}
	if got := plain.String(); got != "as before\n" {
		t.Errorf("after restore: %q", got)
	}
}
