package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rcpt-milter/internal/files"
)

// write makes a file and gives its path.
func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestReadPassword(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want, err string }{
		{write(t, "p", "secret\n", 0o600), "secret", ""},
		{write(t, "p", "secret", 0o600), "secret", ""},
		{write(t, "p", "secret\r\n", 0o600), "secret", ""},
		{write(t, "p", " pass word \n", 0o600), " pass word ", ""},
		{write(t, "p", "\ufeffsecret\n\n", 0o600), "secret", ""},
		{write(t, "p", "", 0o600), "", "PATH is empty; write the password into it, as its only line"},
		{write(t, "p", "\n", 0o600), "", "PATH is empty; write the password into it, as its only line"},
		{write(t, "p", "one\ntwo\n", 0o600), "", "PATH has more than one line; the password must be its only line"},
		{write(t, "p", strings.Repeat("x", files.MaxPassword+1), 0o600), "", "PATH is larger than 4 KiB"},
		{filepath.Join(dir, "none"), "", "PATH does not exist"},
		{dir, "", "PATH is not a regular file"},
		{fifo, "", "PATH is not a regular file"},
	} {
		got, err := readPassword(c.path)
		if got != c.want || (err == nil) != (c.err == "") {
			t.Errorf("readPassword(%q) = %q, %v, want %q, %q", c.path, got, err, c.want, c.err)
		}
		if want := "the password file " + strings.ReplaceAll(c.err, "PATH", c.path); err != nil && err.Error() != want {
			t.Errorf("readPassword: %q, want %q", err, want)
		}
	}
}

func TestCheckKeytab(t *testing.T) {
	good := write(t, "k", "\x05\x02", 0o644)
	for _, c := range []struct{ path, want, warnings string }{
		{good, "", "config.yaml:6:20: directories[0].bind.keytab: PATH is readable by every account on this host; " +
			"chmod o= PATH"},
		{write(t, "k", "\x05\x02\x00\x00\x00\x01", 0o640), "", ""},
		{write(t, "k", "not a keytab", 0o600), "config.yaml:6:20: directories[0].bind.keytab: the keytab file PATH " +
			"is not a keytab; export it again", ""},
		{write(t, "k", "", 0o600), "config.yaml:6:20: directories[0].bind.keytab: the keytab file PATH is not a " +
			"keytab; export it again", ""},
		{"/nonexistent", "config.yaml:6:20: directories[0].bind.keytab: the keytab file PATH does not exist", ""},
	} {
		parsed, err := Parse("config.yaml", []byte("domains:\n  example.com: enforce\n"+
			"directories:\n  - name: corp\n    "+
			"urls: [ldaps://dc1]\n"+
			"    bind: {keytab: "+c.path+", principal: svc@CORP.EXAMPLE}\nlisten: inet:127.0.0.1:1\n"))
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := parsed.CheckFiles()
		got, warned := "", ""
		if err != nil {
			got = err.Error()
		}
		if len(warnings) > 0 {
			warned = warnings[0].Error()
		}
		if want := strings.ReplaceAll(c.want, "PATH", c.path); got != want {
			t.Errorf("CheckFiles: %q, want %q", got, want)
		}
		if want := strings.ReplaceAll(c.warnings, "PATH", c.path); warned != want {
			t.Errorf("warning %q, want %q", warned, want)
		}
	}
}

func TestReadPasswordPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	path := write(t, "p", "secret", 0)
	if _, err := readPassword(path); err == nil || !strings.Contains(err.Error(), "cannot be read by this user") {
		t.Errorf("readPassword of a forbidden file: %v", err)
	}
}

func TestCheckFiles(t *testing.T) {
	good := write(t, "password", "secret\n", 0o640)
	open := write(t, "password", "secret\n", 0o644)
	empty := write(t, "password", "", 0o600)
	wide := write(t, "password", "\xff\xfes\x00e\x00c\x00", 0o600)
	two := write(t, "password", "one\ntwo\n", 0o600)
	marked := write(t, "password", "\ufeffsecret\r\n", 0o600)
	spaced := write(t, "password", "secret \n", 0o600)
	ca := write(t, "ca.pem", "# a comment\n"+certificate(t)+certificate(t), 0o644)
	noCA := write(t, "ca.pem", "not a certificate", 0o644)
	badCA := write(t, "ca.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", 0o644)
	own := "inet:127.0.0.1:1"
	for _, c := range []struct{ name, listen, password, ca, group, err, warnings string }{
		{"all there", own, good, ca, "", "", ""},
		{"open password", own, open, "", "", "", "config.yaml:8:36: directories[0].bind.password_file: " + open +
			" is readable by every account on this host; chmod o= " + open},
		{"no password", own, "/nonexistent", "", "",
			"config.yaml:8:36: directories[0].bind.password_file: the password " +
				"file /nonexistent does not exist", ""},
		{"empty password", own, empty, "", "",
			"config.yaml:8:36: directories[0].bind.password_file: the password file " +
				empty + " is empty; write the password into it, as its only line", ""},
		{"password in UTF-16", own, wide, "", "", "config.yaml:8:36: directories[0].bind.password_file: the password " +
			"file " + wide +
			" is in UTF-16, as PowerShell and Notepad write it; convert it to UTF-8: printf %s \"$(iconv -f UTF-16 " +
			"-t UTF-8 " + wide + ")\" >" + wide, ""},
		{"password of two lines", own, two, "", "",
			"config.yaml:8:36: directories[0].bind.password_file: the password " +
				"file " + two + " has more than one line; the password must be its only line", ""},
		{"password behind a mark", own, marked, "", "", "", ""},
		{"password with a space", own, spaced, "", "", "", "config.yaml:8:36: directories[0].bind.password_file: the " +
			"password in " + spaced +
			" begins or ends with a space, which counts as part of the password"},
		{"no CA", own, good, "/nonexistent", "", "config.yaml:9:20: directories[0].tls.ca_file: the CA file " +
			"/nonexistent does not exist", ""},
		{"not a CA", own, good, noCA, "", "config.yaml:9:20: directories[0].tls.ca_file: the CA file " + noCA +
			" has no certificate in PEM form (-----BEGIN CERTIFICATE-----)", ""},
		{"damaged CA", own, good, badCA, "", "config.yaml:9:20: directories[0].tls.ca_file: the CA file " + badCA +
			" has a certificate that cannot be read: x509: malformed certificate", ""},
		{"both", own, "/nonexistent", "/nonexistent", "", "config.yaml:8:36: directories[0].bind.password_file: the " +
			"password file /nonexistent does not exist\nconfig.yaml:9:20: directories[0].tls.ca_file: the CA file " +
			"/nonexistent does not exist", ""},
		{"unknown group", "unix:/run/x", good, "", "no-such-group",
			`config.yaml:2:17: socket.group: group "no-such-group" does not exist on this host; ` +
				`use a group of Postfix, or "" for the group of the daemon`, ""},
		{"unknown group, unused", own, good, "", "no-such-group", "", ""},
	} {
		text := "listen: " + c.listen + "\nsocket: {group: \"" + c.group + "\"}\ndomains:\n  example.com: " +
			"enforce\ndirectories:\n" +
			"  - name: corp\n    urls: [ldaps://dc1.corp.example]\n    bind: " +
			"{dn: a, password_file:   " + c.password + "}\n" +
			"    tls: {ca_file: \"" + c.ca + "\"}\n"
		parsed, err := Parse("config.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := parsed.CheckFiles()
		if got := textOf(err); got != c.err {
			t.Errorf("%s: CheckFiles:\n%s\nwant\n%s", c.name, got, c.err)
		}
		if got, want := errors.Is(err, ErrMissing), strings.Contains(c.err, "does not exist") ||
			strings.Contains(c.err, "no-such-group"); got != want {
			t.Errorf("%s: errors.Is(%v, ErrMissing) = %t, want %t", c.name, err, got, want)
		}
		var all []string
		for _, w := range warnings {
			all = append(all, w.Error())
		}
		if got := strings.Join(all, "\n"); got != c.warnings {
			t.Errorf("%s: CheckFiles warns\n%s\nwant\n%s", c.name, got, c.warnings)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSocketGID(t *testing.T) {
	root, err := user.LookupGroupId("0")
	if err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		key  string
		want int
		fail bool
	}{
		{`{group: ` + root.Name + `}`, 0, false},
		{`{group: ""}`, -1, false},
		{`{group: no-such-group}`, 0, true},
	} {
		parsed, err := Parse("config.yaml", []byte("socket: "+c.key+"\n"+smallest))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsed.SocketGID(); got != c.want || (err != nil) != c.fail {
			t.Errorf("socket: %s: SocketGID() = %d, %v, want %d", c.key, got, err, c.want)
		}
	}
}

// TestDefaultGroup: a host without a postfix group is worth a warning only if
// the file does not name the group.
func TestDefaultGroup(t *testing.T) {
	if _, err := user.LookupGroup("postfix"); err == nil {
		t.Skip("this host has a group postfix")
	}
	file := strings.ReplaceAll(smallest, "/etc/rcpt-milter/password", write(t, "password", "secret", 0o600))
	parsed, err := Parse("config.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := parsed.CheckFiles()
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].Error(),
		`socket.group: group "postfix" does not exist`) {
		t.Errorf("CheckFiles() = %v, %v", warnings, err)
	}
	if gid, err := parsed.SocketGID(); gid != -1 || err != nil {
		t.Errorf("SocketGID() = %d, %v, want -1", gid, err)
	}
}

// TestCheckFilesKeepsSecrets: what is wrong with a file is said without its content.
func TestCheckFilesKeepsSecrets(t *testing.T) {
	file := strings.ReplaceAll(smallest, "/etc/rcpt-milter/password", write(t, "password", "hunter2\nhunter2\n", 0o600))
	parsed, err := Parse("config.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.CheckFiles(); err == nil || bytes.Contains([]byte(err.Error()), []byte("hunter2")) {
		t.Errorf("CheckFiles() = %v", err)
	}
}

// TestCheckFleetFiles checks that the files of a fleet are examined, and that none of them keeps the daemon from
// starting.
func TestCheckFleetFiles(t *testing.T) {
	password := write(t, "password", "secret\n", 0o600)
	cert := write(t, "cert", certificate(t), 0o644)
	for _, c := range []struct{ name, line, want string }{
		{"no certificate of a stream",
			"publish: {stream: {urls: [\"tls://hub1\"], tls: {cert_file: /nowhere, key_file: /no-key}}}",
			"publish.stream.tls.cert_file: /nowhere with the key /no-key cannot be used: open /nowhere: no such file"},
		{"no key of a stream",
			"publish: {stream: {urls: [\"tls://hub1\"], tls: {cert_file: " + cert + ", key_file: /no-key}}}",
			"publish.stream.tls.cert_file: " + cert +
				" with the key /no-key cannot be used: open /no-key: no such file"},
		{"no certificate of the engine", "nats: {tls: {cert_file: /nowhere, key_file: /no-key, ca_file: " + cert + "}}",
			"nats.tls.cert_file: /nowhere with the key /no-key cannot be used: open /nowhere: no such file"},
		{"no authority of the engine", "nats: {tls: {cert_file: /nowhere, key_file: /no-key, ca_file: /no-ca}}",
			"nats.tls.ca_file: the CA file /no-ca does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parsed, err := Parse("config.yaml", []byte(c.line+"\n"+strings.ReplaceAll(smallest,
				"/etc/rcpt-milter/password", password)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = parsed.CheckFiles(); !strings.Contains(textOf(err), c.want) || errors.Is(err, ErrMissing) {
				t.Errorf("CheckFiles: %v, want %s", err, c.want)
			}
		})
	}
}

func TestCheckAcceptFiles(t *testing.T) {
	for _, c := range []struct{ path, err string }{
		{write(t, "table", "", 0o644), ""},
		{"/nonexistent", "config.yaml:1:16: accept_files[0]: the accept file /nonexistent does not exist"},
		{t.TempDir(), "config.yaml:1:16: accept_files[0]: the accept file PATH is not a regular file"},
	} {
		text := "accept_files: [" + c.path + "]\n" + strings.ReplaceAll(smallest, "/etc/rcpt-milter/password",
			write(t, "password", "secret\n", 0o600))
		parsed, err := Parse("config.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.CheckFiles()
		if got, want := textOf(err), strings.ReplaceAll(c.err, "PATH", c.path); got != want {
			t.Errorf("CheckFiles: %s, want %s", got, want)
		}
		if got, want := errors.Is(err, ErrMissing), strings.HasSuffix(c.err, "exist"); got != want {
			t.Errorf("errors.Is(%v, ErrMissing) = %t, want %t", err, got, want)
		}
	}
}

// TestLaxStore: other accounts that can enter the store are reported.
func TestLaxStore(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o700: false, 0o750: false, 0o500: false, 0o770: true, 0o755: true,
		0o701: true, 0o777: true} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			c := &Config{Store: Store{Dir: dir}}
			warnings, err := c.CheckFiles()
			text := errors.Join(warnings...)
			if err != nil || (text != nil) != want || want && !strings.Contains(text.Error(), "chmod 0700 "+dir) {
				t.Errorf("mode %o: %v, %v, want a warning: %t", mode, text, err, want)
			}
		})
	}
	c := &Config{Store: Store{Dir: filepath.Join(t.TempDir(), "none")}}
	if warnings, err := c.CheckFiles(); len(warnings) > 0 || err != nil {
		t.Errorf("a store that does not exist yet: %v, %v", warnings, err)
	}
}
