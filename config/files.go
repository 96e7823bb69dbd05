package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"

	"rcpt-milter/internal/files"
)

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
		r.failFile("store.encryption_key_file", err)
	} else {
		w.warnWorldReadable("store.encryption_key_file", c.Store.KeyFile)
	}
	for i, d := range c.Directories {
		path := fmt.Sprintf("directories[%d]", i)
		key, file, doubts, err := d.Bind.secret()
		if key = path + ".bind." + key; err != nil {
			r.failFile(key, err)
		} else {
			w.warnWorldReadable(key, file)
		}
		for _, doubt := range doubts {
			w.failAt(r.first(key), "%s: the password in %s %s", key, file, doubt)
		}
		if d.TLS.CAFile != "" {
			r.failFile(path+".tls.ca_file", checkCA(d.TLS.CAFile))
		}
	}
	for i, file := range c.AcceptFiles {
		to := r
		if slices.Contains(held, file) {
			to = w
		}
		to.failFile(fmt.Sprintf("accept_files[%d]", i), checkReadable(file, "accept"))
	}
	for _, e := range w.errs {
		warnings = append(warnings, e)
	}
	return warnings, r.err()
}

// secret finds what is wrong with the file that holds the secret, which it names
// together with its key. Doubts are about a password that is allowed and rarely meant.
func (b Bind) secret() (key, file string, doubts []string, err error) {
	if b.Keytab != "" {
		return "keytab", b.Keytab, nil, checkKeytab(b.Keytab)
	}
	password, err := readPassword(b.PasswordFile)
	return "password_file", b.PasswordFile, files.Doubts(password), err
}

// maxSecret is the size limit of a password file, in bytes.
const maxSecret = files.MaxPassword

// readPassword reads a password file as a bind does.
func readPassword(path string) (string, error) {
	password, err := files.Password(path)
	return string(password), err
}

// failFile records what is wrong with a file, if anything is.
func (r *reader) failFile(path string, err error) {
	if err == nil {
		return
	}
	var kind error
	if errors.Is(err, fs.ErrNotExist) {
		kind = ErrMissing
	}
	r.add(r.first(path), kind, fmt.Sprintf("%s: %v", path, err))
}

// warnWorldReadable records that everybody may read a secret, if that is so.
func (r *reader) warnWorldReadable(key, file string) {
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

// checkKeytab finds whether a file begins as a keytab does. What is in it, those know
// who use it.
func checkKeytab(path string) error {
	data, err := files.Read(path, "keytab", files.MaxKeytab)
	if err == nil && !bytes.HasPrefix(data, []byte{5, 2}) {
		err = fmt.Errorf("the keytab file %s is not a keytab; export it again", path)
	}
	return err
}

// checkCA finds whether a file holds certificates, all of which can be read.
func checkCA(path string) error {
	_, err := files.Certificates(path)
	return err
}

// checkReadable finds whether a file is there to be read.
func checkReadable(path, what string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("the %s file %s is not a regular file", what, path)
	}
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			return f.Close()
		}
	}
	return files.Unusable(err, path, what)
}
