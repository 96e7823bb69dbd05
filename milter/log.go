package milter

import (
	"bytes"
	"log"
	"log/slog"

	"rcpt-milter/internal/logging"
)

// BridgeLog redirects the output of the global log package, which libraries use, to logger at a limited rate.
// main calls it once. restore undoes it.
func BridgeLog(logger *slog.Logger) (restore func()) {
	output, flags, prefix := log.Writer(), log.Flags(), log.Prefix()
	log.SetOutput(bridge{logging.NewLimited(logger)})
	log.SetFlags(0)
	log.SetPrefix("")
	return func() {
		log.SetOutput(output)
		log.SetFlags(flags)
		log.SetPrefix(prefix)
	}
}

// bridge is a writer that receives one log entry, of one or more lines, per Write.
type bridge struct{ to *logging.Limited }

func (b bridge) Write(p []byte) (int, error) {
	b.to.Warn("library", "detail", escaped(string(bytes.TrimSpace(p))))
	return len(p), nil
}
