package postfix

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeCommands puts shell scripts into PATH.
func fakeCommands(t *testing.T, scripts map[string]string) {
	t.Helper()
	bin := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestHostKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "domains")
	if err := os.WriteFile(file, []byte("# c\na.example, b.example\n  c.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cidr := filepath.Join(dir, "cidr")
	if err := os.WriteFile(cidr, []byte("# c\n192.0.2.0/24\tDISABLE\n0.0.0.0/0  unix:a,\n  inet:b:1\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	fakeCommands(t, map[string]string{"postmap": `[ "$1" = -c ] && shift 2
case "$2" in
hash:/good) printf 'a@x\tb\nc d@x\te  f\n';;
hash:/long) head -c 2000000 /dev/zero | tr '\0' a;;
lmdb:/none) echo 'postmap: fatal: unsupported dictionary type: lmdb' >&2; exit 1;;
proxy:*) echo 'postmap: fatal: table x: sequence operation is not supported' >&2; exit 1;;
*) echo 'postmap: warning: x' >&2; echo 'postmap: fatal: open database /none.db: No such file or directory' >&2; exit 1;;
esac`})
	for _, c := range []struct {
		table, want, err string
		cannot           bool
	}{
		{"hash:/good", "a@x=b c d@x=e  f", "", false},
		{file, "a.example= b.example= c.example=", "", false},
		{"cidr:" + cidr, "192.0.2.0/24=DISABLE 0.0.0.0/0=unix:a, inet:b:1", "", false},
		{"cidr:" + filepath.Join(dir, "none"), "", "no such file", false},
		{filepath.Join(dir, "none"), "", "no such file", false},
		{"hash:/none", "", "open database /none.db: No such file or directory", false},
		{"lmdb:/none", "", "unsupported dictionary type", true},
		{"proxy:hash:/good", "", "not supported", true},
		{"regexp:/x", "", "cannot be listed", true},
		{"hash:/long", "", "token too long", false},
	} {
		var all []string
		err := NewLocalHost(t.Context(), "/etc/postfix-in").Keys(c.table,
			func(key, value string) { all = append(all, key+"="+value) })
		if got := strings.Join(all, " "); got != c.want || (err == nil) != (c.err == "") || err != nil &&
			!strings.Contains(err.Error(), c.err) || errors.Is(err, ErrCannotList) != c.cannot {
			t.Errorf("Keys(%q) = %q, %v, want %q, %q", c.table, got, err, c.want, c.err)
		}
	}
}

func TestHostHas(t *testing.T) {
	fakeCommands(t, map[string]string{"postmap": `case "$2" in
yes) echo OK;;
no) exit 1;;
*) echo 'postmap: fatal: unsupported dictionary type: ldap' >&2; exit 1;;
esac`})
	h := NewLocalHost(t.Context(), "")
	for key, want := range map[string]bool{"yes": true, "no": false, "broken": false} {
		if got, err := h.Has("hash:/x", key); got != want || (err != nil) != (key == "broken") {
			t.Errorf("Has(%q) = %t, %v", key, got, err)
		}
	}
}

func TestHostSettings(t *testing.T) {
	fakeCommands(t, map[string]string{"postconf": `[ "$1" = -c ] && shift 2
case "$1" in
"") echo 'queue_directory = /var/spool/in'; echo 'a = $b';;
-n) echo 'a = c';;
-M) echo 'smtp inet n - y - - smtpd';;
-P) echo 'smtp/inet/a = d=e';;
esac`})
	s, err := NewLocalHost(t.Context(), "/etc/in").Settings()
	if err != nil || s.Dir != "/etc/in" || s.Value(nil, "a") != "c" || len(s.Services) != 1 ||
		s.Value(&s.Services[0], "a") != "d=e" || s.queue() != "/var/spool/in" {
		t.Errorf("Settings: %+v, %v", s, err)
	}
	fakeCommands(t, map[string]string{"postconf": "echo 'postconf: fatal: open /etc/none/main.cf: No such file or " +
		"directory' >&2; exit 1"})
	if _, err := NewLocalHost(t.Context(), "/etc/none").Settings(); err == nil ||
		err.Error() != "open /etc/none/main.cf: No such file or directory" {
		t.Errorf("Settings of nothing: %v", err)
	}
}

// TestHostSocket looks as a user without any right, and as root, who owns the files.
func TestHostSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look as another user")
	}
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sub/s")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	h := NewLocalHost(t.Context(), "")
	h.queue = dir
	if s := h.Socket(path, "nobody"); s.Exists || s.Obstacle != "" {
		t.Errorf("nothing there: %+v", s)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		what, user string
		socket     os.FileMode
		dir        os.FileMode
		obstacle   string
	}{
		{"open", "nobody", 0o666, 0o755, ""},
		{"mode", "nobody", 0o660, 0o755, path + " has mode 0660 and belongs to root:root and does not let it write"},
		{"directory", "nobody", 0o666, 0o750, filepath.Dir(path) +
			" has mode 0750 and belongs to root:root and does not " +
			"let it through"},
		{"owner", "root", 0o600, 0o700, ""},
		{"owner without a right", "root", 0o066, 0o755,
			path + " has mode 0066 and belongs to root:root and does not let " +
				"it write"},
		{"no user", "no-such-user", 0o666, 0o755, "mail_owner: user: unknown user no-such-user"},
	} {
		os.Chmod(path, c.socket)
		os.Chmod(filepath.Dir(path), c.dir)
		if s := h.Socket(path, c.user); !s.Exists || !s.IsSocket || !s.Answers || s.Obstacle != c.obstacle ||
			s.Writable != (c.obstacle == "") {
			t.Errorf("%s: %+v, want %q", c.what, s, c.obstacle)
		}
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if s := h.Socket(path, "root"); !s.Exists || s.Answers {
		t.Errorf("left behind: %+v", s)
	}
}

// TestLastDenial: only denials of sockets of the daemon to smtpd count, and the newest is reported.
func TestLastDenial(t *testing.T) {
	const denial = `type=AVC msg=audit(%d.123:7): avc:  denied  { %s } for  pid=7 comm="%s" path="%s"`
	log := strings.Join([]string{
		fmt.Sprintf(denial, 1, "connectto", "smtpd", "/var/spool/postfix/rcpt-milter/milter.sock"),
		fmt.Sprintf(denial, 2, "connectto", "smtpd", "/run/opendkim/opendkim.sock"),
		fmt.Sprintf(denial, 3, "write", "smtpd", "/var/spool/postfix/rcpt-milter/map.sock"),
		fmt.Sprintf(denial, 4, "write", "nginx", "/run/rcpt-milter/page.sock"), "",
		`type=AVC msg=audit(): avc:  denied  { write } for  comm="smtpd" path="/run/rcpt-milter/x"`, "garbage \x00"},
		"\n")
	if got := lastDenial([]byte(log)); got.Time.Unix() != 3 || !strings.Contains(got.Text, "map.sock") {
		t.Errorf("last denial %+v", got)
	}
	if got := lastDenial(nil); got != (Denial{}) {
		t.Errorf("of an empty log: %+v", got)
	}
}
