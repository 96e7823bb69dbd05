package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/url"
	"slices"

	"rcpt-milter/config"
	"rcpt-milter/control"
	"rcpt-milter/directory"
	"rcpt-milter/internal/files"
	"rcpt-milter/mirror"
)

// controllers returns the listed domain controllers of a directory, or a function that discovers them in DNS.
func controllers(d config.Directory) (listed []mirror.Candidate, discover func(context.Context) ([]mirror.Candidate,
	error)) {
	if d.Discover == "" {
		return candidatesAt(d, d.URLs), nil
	}
	return nil, func(ctx context.Context) ([]mirror.Candidate, error) {
		urls, err := directory.Discover(ctx, net.DefaultResolver, d.Discover, d.Site)
		return candidatesAt(d, urls), err
	}
}

func candidatesAt(d config.Directory, urls []string) []mirror.Candidate {
	var all []mirror.Candidate
	for _, at := range urls {
		host, view := "", ""
		if u, err := url.Parse(at); err == nil {
			host, view = u.Hostname(), mirror.ViewOfPort(u.Port())
		}
		all = append(all, mirror.Candidate{
			Name: at, Host: host, View: view,
			Dial: func(ctx context.Context) (mirror.Source, error) {
				// Do not return a nil *Conn as a non-nil Source.
				conn, err := directory.Dial(ctx, controllerConfig(d, at))
				if err != nil {
					return nil, err
				}
				return conn, nil
			},
		})
	}
	return all
}

// controllerConfig returns the configuration of a connection to a domain controller.
func controllerConfig(d config.Directory, url string) directory.Config {
	c := directory.Config{
		URL: url, BindDN: d.Bind.DN, Keytab: d.Bind.Keytab, Principal: d.Bind.Principal,
		CAFile: d.TLS.CAFile, ServerName: d.TLS.ServerName, AddressAttributes: d.AddressAttributes,
	}
	if d.Bind.PasswordFile != "" {
		c.Password = directory.PasswordFile(d.Bind.PasswordFile)
	}
	return c
}

// secretDigest returns a function whose result changes with the password or the keytab. The result does not
// reveal the secret.
func secretDigest(b config.Bind) func() string {
	read := directory.PasswordFile(b.PasswordFile)
	if b.Keytab != "" {
		read = func() ([]byte, error) { return files.Read(b.Keytab, "keytab", files.MaxKeytab) }
	}
	return func() string {
		secret, err := read()
		if err != nil {
			return err.Error()
		}
		sum := sha256.Sum256(secret)
		return string(sum[:])
	}
}

// checkSecret returns an error if a directory has a password file or keytab that is unusable for a bind, or
// stream files that are unusable for a connection.
func checkSecret(d config.Directory) (err error) {
	if d.Stream != nil {
		err = checkStreamFiles(*d.Stream)
	} else if d.Bind.Keytab != "" {
		err = directory.CheckKeytab(d.Bind.Keytab, d.Bind.Principal)
	} else if _, err = directory.PasswordFile(d.Bind.PasswordFile)(); err != nil {
		err = fmt.Errorf("bind.password_file: %w", err)
	}
	if err != nil {
		return fmt.Errorf("directory %s: %w", d.Name, err)
	}
	return nil
}

// streamSecret is like secretDigest, for the credentials of a stream.
func streamSecret(s config.Stream) func() string {
	if s.CredentialsFile == "" {
		return nil
	}
	return func() string {
		secret, err := files.Read(s.CredentialsFile, "credentials", maxCredentials)
		if err != nil {
			return err.Error()
		}
		sum := sha256.Sum256(secret)
		return string(sum[:])
	}
}

// maxCredentials limits the size of a stream's credentials file, in bytes.
const maxCredentials = 64 << 10

// checkStreamFiles returns an error if the files of a stream are unusable for a connection.
func checkStreamFiles(s config.Stream) error {
	if s.CredentialsFile != "" {
		if _, err := files.Read(s.CredentialsFile, "credentials", maxCredentials); err != nil {
			return fmt.Errorf("stream.credentials_file: %w", err)
		}
	}
	_, err := linkTLS(s)
	return err
}

// warnOfSecrets adds a warning to each directory whose next bind will fail. Passes do not fail while the
// current connection lasts.
func (set directorySet) warnOfSecrets(directories []control.DirectoryStatus) {
	for _, d := range set {
		at := slices.IndexFunc(directories, func(s control.DirectoryStatus) bool { return s.Name == d.Name() })
		if at < 0 || directories[at].LastError != "" {
			continue
		}
		if err := checkSecret(d.config); err != nil {
			directories[at].Warnings = append(directories[at].Warnings,
				"the current connection stays, but no new one can be made: "+err.Error())
		}
	}
}
