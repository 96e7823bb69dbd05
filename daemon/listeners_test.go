package daemon

import (
	"fmt"
	"strings"
	"testing"

	"rcpt-milter/config"
	"rcpt-milter/internal/socket"
)

// TestSocketPathLimit checks that config accepts exactly those paths at which package socket can listen.
func TestSocketPathLimit(t *testing.T) {
	for length, valid := range map[int]bool{socket.MaxPath: true, socket.MaxPath + 1: false} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			path := "/" + strings.Repeat("x", length-1)
			_, err := config.Parse("config.yaml", []byte("listen: unix:"+path+`
domains: {corp.example: enforce}
directories:
  - name: corp
    urls: [ldaps://dc1.corp.example]
    bind: {dn: svc, password_file: /etc/rcpt-milter/password}
`))
			if (err == nil) != valid {
				t.Errorf("Parse with a path of %d bytes: %v, want valid %t", length, err, valid)
			}
		})
	}
}
