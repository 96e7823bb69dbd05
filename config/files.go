package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
)

// maxSecret is the most octets of a password file, far above what a password may have.
const maxSecret = 4 << 10

// CheckFiles looks at what the configuration names outside itself: key, password, keytab and
// CA files, accept files, and the group of the sockets. What is in accept files, those
// know who read them. The error is one or several *Error, joined; it
// wraps ErrMissing if one of them does. Warnings are *Error as well: they do not keep
// a daemon from working. That one of the accept files that are held, because somebody has
// read them before, is not there now is a warning.
func (c *Config) CheckFiles(held ...string) (warnings []error, err error) {
	r := &reader{file: c.file, at: c.at}
	w := &reader{file: c.file, at: c.at}
	if c.listensUnix() {
		c.checkGroup(r, w)
	}
	if _, err := c.Store.Key(); err != nil {
		r.addFile("store.encryption_key_file", err)
	} else {
		w.warnOpen("store.encryption_key_file", c.Store.KeyFile)
	}
	for i, d := range c.Directories {
		path := fmt.Sprintf("directories[%d]", i)
		key, file, err := d.Bind.secret()
		if key = path + ".bind." + key; err != nil {
			r.addFile(key, err)
		} else {
			w.warnOpen(key, file)
		}
		if d.TLS.CAFile != "" {
			r.addFile(path+".tls.ca_file", checkCA(d.TLS.CAFile))
		}
	}
	for i, file := range c.AcceptFiles {
		to := r
		if slices.Contains(held, file) {
			to = w
		}
		to.addFile(fmt.Sprintf("accept_files[%d]", i), checkReadable(file, "accept"))
	}
	for _, e := range w.errs {
		warnings = append(warnings, e)
	}
	return warnings, r.err()
}

// secret finds what is wrong with the file that holds the secret, which it names
// together with its key.
func (b Bind) secret() (key, file string, err error) {
	if b.Keytab != "" {
		return "keytab", b.Keytab, checkKeytab(b.Keytab)
	}
	_, err = readPassword(b.PasswordFile)
	return "password_file", b.PasswordFile, err
}

// addFile records what is wrong with a file, if anything is.
func (r *reader) addFile(path string, err error) {
	if err == nil {
		return
	}
	var kind error
	if errors.Is(err, fs.ErrNotExist) {
		kind = ErrMissing
	}
	r.add(r.first(path), kind, fmt.Sprintf("%s: %v", path, err))
}

// warnOpen records that everybody may read a secret, if that is so.
func (r *reader) warnOpen(key, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o007 != 0 {
		r.failAt(r.first(key), "%s: everybody on this host may read %s; chmod o= %s", key, file, file)
	}
}

// checkGroup finds whether the group of the sockets exists. Only one that was asked
// for has to.
func (c *Config) checkGroup(r, warnings *reader) {
	gid, err := c.SocketGID()
	switch {
	case err != nil:
		r.add(r.first("socket.group"), ErrMissing, fmt.Sprintf("socket.group: %v", err))
	case gid < 0 && c.Socket.Group != "":
		warnings.failAt(r.first("socket", "listen"),
			"socket.group: there is no group %q on this host; unless Postfix runs with our own group, it cannot connect", c.Socket.Group)
	}
}

// SocketGID is the group that the unix sockets of listen are given to; -1: the group
// of the process. A group that was not asked for and does not exist is the latter.
func (c *Config) SocketGID() (int, error) {
	if c.Socket.Group == "" {
		return -1, nil
	}
	if group, err := user.LookupGroup(c.Socket.Group); err == nil {
		return strconv.Atoi(group.Gid)
	}
	if _, asked := c.at["socket.group"]; !asked {
		return -1, nil
	}
	return 0, fmt.Errorf("there is no group %q on this host; name one that Postfix is in, or \"\" for the group of the daemon", c.Socket.Group)
}

func (c *Config) listensUnix() bool {
	for _, l := range c.Listen {
		if l.Network == "unix" {
			return true
		}
	}
	return false
}

// readPassword reads a password file as the directory will: all of it but the end of
// its one line.
// It does not complain about permissions, which are the administrator's to judge.
func readPassword(path string) (string, error) {
	data, err := readSmall(path, "password")
	if err != nil {
		return "", err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	switch {
	case len(data) == 0:
		return "", fmt.Errorf("the password file %s is empty; write the password into it, as its only line", path)
	case bytes.ContainsAny(data, "\r\n\x00"):
		return "", fmt.Errorf("the password file %s has more than one line; the password must be its only line", path)
	}
	return string(data), nil
}

// checkKeytab finds whether a file begins as a keytab does. What is in it, those know
// who use it.
func checkKeytab(path string) error {
	data, err := readSmall(path, "keytab")
	if err == nil && !bytes.HasPrefix(data, []byte{5, 2}) {
		err = fmt.Errorf("the keytab file %s is not a keytab; export it again", path)
	}
	return err
}

// checkCA finds whether a file holds certificates.
func checkCA(path string) error {
	data, err := readSmall(path, "CA")
	if err != nil {
		return err
	}
	found := false
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("the CA file %s has a certificate that cannot be read: %v", path, err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("the CA file %s has no certificate in PEM form (-----BEGIN CERTIFICATE-----)", path)
	}
	return nil
}

// readSmall reads a regular file. What it says names the file once, and what to do.
func readSmall(path, what string) ([]byte, error) {
	limit := int64(maxSecret)
	switch what {
	case "CA":
		limit = 16 << 20 // bundles of all public authorities are a quarter of a megabyte
	case "keytab":
		limit = 1 << 20
	}
	var data []byte
	err := regular(path, what)
	if err == nil {
		data, err = readLimited(path, limit)
	}
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("the %s file %s is larger than %d KiB", what, path, limit>>10)
	}
	return data, unusable(err, path, what)
}

// checkReadable finds whether a file is there to be read.
func checkReadable(path, what string) error {
	err := regular(path, what)
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			return f.Close()
		}
	}
	return unusable(err, path, what)
}

// notRegular is a sentence about a file that is something else.
type notRegular string

func (e notRegular) Error() string { return string(e) }

func regular(path, what string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(fmt.Sprintf("the %s file %s is not a regular file", what, path))
	}
	return err
}

// unusable says why a file cannot be used, and what to do.
func unusable(err error, path, what string) error {
	var odd notRegular
	switch {
	case err == nil || errors.As(err, &odd):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return missing(fmt.Sprintf("the %s file %s does not exist", what, path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the %s file %s cannot be read by this user (uid %d); change its owner or group", what, path, os.Geteuid())
	}
	return fmt.Errorf("the %s file cannot be read: %w", what, err)
}

// missing is a sentence about a file that is not there.
type missing string

func (m missing) Error() string { return string(m) }

// Is makes it fs.ErrNotExist for errors.Is.
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
