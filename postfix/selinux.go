package postfix

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Denial is a record of SELinux. The zero value means none.
type Denial struct {
	Time time.Time
	Text string // the line of the audit log
}

// auditLog is where auditd writes, and auditTail how much of its end is read.
const (
	auditLog  = "/var/log/audit/audit.log"
	auditTail = 1 << 20
)

// Denied implements Host. It needs the log of auditd, which only root may read.
func (h *LocalHost) Denied() Denial {
	f, err := os.Open(auditLog)
	if err != nil {
		return Denial{}
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, size-auditTail), io.SeekStart)
	}
	data, err := io.ReadAll(io.LimitReader(f, auditTail))
	if err != nil {
		return Denial{}
	}
	return lastDenial(data)
}

// auditTime matches the time of an audit record, in seconds since 1970.
var auditTime = regexp.MustCompile(`msg=audit\(([0-9]{1,12})[.:]`)

// lastDenial returns the last record of an audit log that denies smtpd a socket of the daemon. A
// record without a time does not count.
func lastDenial(log []byte) (last Denial) {
	for line := range bytes.Lines(log) {
		text := strings.TrimSpace(string(line))
		if strings.Contains(text, "type=AVC") && strings.Contains(text, "denied") &&
			strings.Contains(text, `comm="smtpd"`) &&
			(strings.Contains(text, "rcpt-milter") || strings.Contains(text, `name="milter.sock"`) ||
				strings.Contains(text, `name="map.sock"`)) {
			if found := auditTime.FindStringSubmatch(text); found != nil {
				seconds, _ := strconv.ParseInt(found[1], 10, 64) // it has at most 12 digits
				last = Denial{time.Unix(seconds, 0), text}
			}
		}
	}
	return last
}
