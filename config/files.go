package config

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"

	"rcpt-milter/internal/files"
)

// CheckFiles checks the files that the configuration names (key, tokens, password, keytab, CA and
// accept files) and the group of the sockets. It does not read the entries of accept files.
// The error is one or several *Error, joined. It wraps ErrMissing if a file or the group
// does not exist. Warnings are *Error too. A missing accept file is only a warning if its
// path is in held, because its last good copy is in use.
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
	w.warnLaxStore(c.Store.Dir)
	if c.Page.Tokens != "" {
		if tokens, err := ReadTokens(c.Page.Tokens); err != nil {
			r.failFile("page.tokens", err)
		} else {
			w.warnWorldReadable("page.tokens", c.Page.Tokens)
			c.warnTokenDomains(w, tokens)
		}
	}
	for i, d := range c.Directories {
		path := fmt.Sprintf("directories[%d]", i)
		if d.Stream != nil {
			d.Stream.checkFiles(r, w, path+".stream")
			continue
		}
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
	if c.Publish != nil {
		c.Publish.Stream.checkFiles(r, w, "publish.stream")
	}
	if c.NATS != nil {
		r.doubtPair("nats.tls.cert_file", c.NATS.TLS.CertFile, c.NATS.TLS.KeyFile)
		if c.NATS.TLS.CAFile != "" {
			r.doubt("nats.tls.ca_file", checkCA(c.NATS.TLS.CAFile))
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

// checkFiles checks the files that a stream names.
func (s *Stream) checkFiles(r, w *reader, path string) {
	if s.CredentialsFile != "" {
		if _, err := files.Read(s.CredentialsFile, "credentials", files.MaxCA); err != nil {
			r.failFile(path+".credentials_file", err)
		} else {
			w.warnWorldReadable(path+".credentials_file", s.CredentialsFile)
		}
	}
	if s.TLS.CAFile != "" {
		r.failFile(path+".tls.ca_file", checkCA(s.TLS.CAFile))
	}
	r.doubtPair(path+".tls.cert_file", s.TLS.CertFile, s.TLS.KeyFile)
}

// doubtPair is doubt for a certificate and its key.
func (r *reader) doubtPair(path, cert, key string) {
	if cert == "" {
		return
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		r.doubt(path, fmt.Errorf("%s with the key %s cannot be used: %w", cert, key, err))
	}
}

// doubt records the error of a file without which the daemon starts, and tries again.
func (r *reader) doubt(path string, err error) {
	if err != nil {
		r.add(r.first(path), nil, fmt.Sprintf("%s: %v", path, err))
	}
}

// secret checks the file with the secret of the bind. It returns the key of the file, the
// file, and doubts about a suspicious but valid password.
func (b Bind) secret() (key, file string, doubts []string, err error) {
	if b.Keytab != "" {
		return "keytab", b.Keytab, nil, checkKeytab(b.Keytab)
	}
	password, err := readPassword(b.PasswordFile)
	return "password_file", b.PasswordFile, files.Doubts(password), err
}

// readPassword reads a password file like a bind.
func readPassword(path string) (string, error) {
	password, err := files.Password(path)
	return string(password), err
}

// failFile records the error of a file, if there is one.
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

// warnWorldReadable records a warning if every account may read a secret.
func (r *reader) warnWorldReadable(key, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o007 != 0 {
		r.failAt(r.first(key), "%s: %s is readable by every account on this host; chmod o= %s", key, file, file)
	}
}

// laxStore has the permissions that a store should not grant: any to other accounts, and write to
// the group. The group of the daemon may read it, because its members may use control as well.
const laxStore fs.FileMode = 0o027

// warnLaxStore records a warning if other accounts can enter the store or change it. It has all
// addresses.
func (r *reader) warnLaxStore(dir string) {
	if info, err := os.Stat(dir); err == nil && info.IsDir() && info.Mode().Perm()&laxStore != 0 {
		r.failAt(r.first("store.dir", "store"), "store.dir: %s, which has all addresses, gives other accounts "+
			"access (%v); chmod 0700 %s", dir, info.Mode(), dir)
	}
}

// checkGroup checks that the group of the sockets exists. The default group may be missing.
func (c *Config) checkGroup(r, warnings *reader) {
	gid, err := c.SocketGID()
	switch {
	case err != nil:
		r.add(r.first("socket.group"), ErrMissing, fmt.Sprintf("socket.group: %v", err))
	case gid < 0 && c.Socket.Group != "":
		warnings.failAt(r.first("socket", "listen"),
			"socket.group: group %q does not exist on this host; Postfix cannot connect unless it runs with the group "+
				"of the daemon", c.Socket.Group)
	}
}

// SocketGID returns the group of the unix sockets of listen, or -1 for the group of the
// process. It also returns -1 if the group is the default and does not exist.
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
	return 0, fmt.Errorf("group %q does not exist on this host; use a group of Postfix, or \"\" for the group of the "+
		"daemon", c.Socket.Group)
}

func (c *Config) listensUnix() bool {
	for _, l := range slices.Concat(c.Listen, c.ListenSocketmap) {
		if l.Network == "unix" {
			return true
		}
	}
	return false
}

// checkKeytab checks that a file begins like a keytab.
func checkKeytab(path string) error {
	data, err := files.Read(path, "keytab", files.MaxKeytab)
	if err == nil && !bytes.HasPrefix(data, []byte{5, 2}) {
		err = fmt.Errorf("the keytab file %s is not a keytab; export it again", path)
	}
	return err
}

// checkCA checks that all certificates of a file can be parsed.
func checkCA(path string) error {
	_, err := files.Certificates(path)
	return err
}

// checkReadable checks that a regular file can be opened.
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
