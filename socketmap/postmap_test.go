package socketmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// postmap queries the map with Postfix's client. It returns the value and the messages.
func (r *running) postmap(t *testing.T, name, key string) (value, said string) {
	t.Helper()
	program, err := exec.LookPath("postmap")
	if err != nil {
		if program = "/usr/sbin/postmap"; !exists(program) {
			t.Skip("there is no Postfix on this host")
		}
	}
	dir := t.TempDir()
	settings := []byte("compatibility_level = 3.6\nmyhostname = mx.test\ninet_interfaces = 127.0.0.1\n")
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), settings, 0o644); err != nil {
		t.Fatal(err)
	}
	at := "socketmap:unix:" + r.address.String() + ":" + name
	if r.address.Network() == "tcp" {
		at = "socketmap:inet:" + r.address.String() + ":" + name
	}
	command := exec.CommandContext(t.Context(), program, "-c", dir, "-q", key, at)
	var out, trouble strings.Builder
	command.Stdout, command.Stderr = &out, &trouble
	err = command.Run()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), trouble.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestPostmap checks that Postfix's own client understands all replies, over both kinds of sockets.
func TestPostmap(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		s := serve(t, network, nil)
		for _, c := range []struct{ name, key, value, said string }{
			{Map, "ann@enforce.test", "known", ""},
			{Map, "ann+news@enforce.test", "known", ""},
			{Map, "nobody@enforce.test", "", ""},
			{Map, "nobody@report.test", WouldRefuse, ""},
			{Map, "nobody@stale.test", "", "read too long ago"},
			{"virtual", "ann@enforce.test", "", "the name of the map is " + Map},
		} {
			t.Run(network+" "+c.name+" "+c.key, func(t *testing.T) {
				t.Parallel() // without a syslog socket, postmap waits a second for one
				value, said := s.postmap(t, c.name, c.key)
				if value != c.value || !strings.Contains(said, c.said) || c.said == "" && said != "" {
					t.Errorf("value %q, want %q; said %q, want %q", value, c.value, said, c.said)
				}
			})
		}
	}
}
