package main

import (
	"context"
	"crypto/sha256"
	"net"
	"net/url"
	"os"

	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
)

// controllers are the domain controllers of a directory: as listed, or a function that
// asks DNS for them.
func controllers(d config.Directory) (listed []mirror.Candidate, discover func(context.Context) ([]mirror.Candidate, error)) {
	if d.Discover == "" {
		return candidates(d, d.URLs), nil
	}
	return nil, func(ctx context.Context) ([]mirror.Candidate, error) {
		urls, err := directory.Discover(ctx, net.DefaultResolver, d.Discover, d.Site)
		return candidates(d, urls), err
	}
}

func candidates(d config.Directory, urls []string) []mirror.Candidate {
	var all []mirror.Candidate
	for _, at := range urls {
		host, view := "", ""
		if u, err := url.Parse(at); err == nil {
			host, view = u.Hostname(), mirror.ViewOfPort(u.Port())
		}
		all = append(all, mirror.Candidate{
			Name: at, Host: host, View: view,
			Dial: func(ctx context.Context) (mirror.Source, error) {
				// A nil *Conn must not become a Source that is not nil.
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

// controllerConfig is how to reach one domain controller of a directory.
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

// secretOf gives something that changes when the password or the keytab does, and is
// not it.
func secretOf(b config.Bind) func() string {
	read := directory.PasswordFile(b.PasswordFile)
	if b.Keytab != "" {
		read = func() ([]byte, error) { return os.ReadFile(b.Keytab) }
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
