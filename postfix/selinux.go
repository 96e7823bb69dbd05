package postfix

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// auditLog is where auditd writes, and auditTail how much of its end is read.
const (
	auditLog  = "/var/log/audit/audit.log"
	auditTail = 1 << 20
)

// Denied implements Host. It needs the log of auditd, which only root may read.
func (h *LocalHost) Denied() string {
	f, err := os.Open(auditLog)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, size-auditTail), io.SeekStart)
	}
	data, err := io.ReadAll(io.LimitReader(f, auditTail))
	if err != nil {
		return ""
	}
	return lastDenial(data)
}

// lastDenial returns the last line of an audit log that denies smtpd a socket of the daemon.
func lastDenial(log []byte) (last string) {
	for line := range bytes.Lines(log) {
		text := strings.TrimSpace(string(line))
		if strings.Contains(text, "type=AVC") && strings.Contains(text, "denied") && strings.Contains(text, `comm="smtpd"`) &&
			(strings.Contains(text, "rcpt-milter") || strings.Contains(text, `name="milter.sock"`) ||
				strings.Contains(text, `name="map.sock"`)) {
			last = text
		}
	}
	return last
}
