package directory

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// init lowers the limits of the decoder. They are variables of its package, so they must not change
// while a goroutine may read them. They also apply to the values of controls, which the LDAP library
// decodes a second time.
func init() { ber.MaxPacketLengthBytes, ber.MaxNestingDepth = maxMessage, maxDepth }

// Dial connects, encrypts the connection and binds, all within DialTimeout. The context limits
// only Dial, not the life of the connection. Errors: ErrConfig, ErrSecret, ErrUnreachable,
// ErrTimeout, ErrTLS, ErrCredentials, ErrRefused, ErrProtocol.
func Dial(ctx context.Context, config Config) (*Conn, error) {
	config, at, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Conn{config: config, at: at}
	ctx, cancel := context.WithTimeout(ctx, config.DialTimeout)
	defer cancel()
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return c, nil
}

// open sets up the layers in order: TCP, TLS, LDAP, bind.
func (c *Conn) open(ctx context.Context) error {
	tlsConfig, err := c.config.tlsConfig()
	if err != nil {
		return err
	}
	if err := c.config.checkSecret(); err != nil {
		return err
	}
	raw, err := c.config.Dialer(ctx, "tcp", c.at.String())
	if err != nil {
		return dialError(err)
	}
	c.raw = &rawConn{Conn: raw}
	secured, err := c.handshake(ctx, tlsConfig)
	if err != nil {
		c.raw.abort()
		return err
	}
	c.tls = newTLSConn(secured, c.raw)
	c.ldap = ldap.NewConn(c.tls, true)
	c.ldap.Start()
	if err := c.bind(ctx); err != nil {
		c.Close()
		return err
	}
	return nil
}

// handshake requests StartTLS if the URL requires it, and runs the TLS handshake.
func (c *Conn) handshake(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	deadline, _ := ctx.Deadline()
	c.raw.setDeadline(deadline)
	stop := context.AfterFunc(ctx, c.raw.abort)
	defer stop()
	if c.at.startTLS {
		if err := c.startTLS(); err != nil {
			return nil, c.startTLSError(ctx, err)
		}
	}
	conn := tls.Client(c.raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, c.handshakeError(ctx, err)
	}
	return conn, nil
}

// bind authenticates over the encrypted connection.
func (c *Conn) bind(ctx context.Context) error {
	if c.config.Keytab != "" {
		return c.bindKeytab(ctx)
	}
	return c.bindPassword(ctx)
}

// bindKeytab binds with Kerberos (RFC 4752). It first asks the controller for its host name,
// which the ticket must match, because the URL may hold an alias or an IP address. The
// controller's certificate has been verified, and a ticket for another host would be of no use
// to it.
func (c *Conn) bindKeytab(ctx context.Context) error {
	principal := c.config.Principal
	center, err := newKDC(net.JoinHostPort(c.at.host, "88"), c.config)
	if err != nil {
		return err
	}
	entry, err := c.lookup(ctx, "", []string{"dnsHostName"})
	if err != nil {
		return fmt.Errorf("bind as %q: %w", principal, c.operationError("reading rootDSE", err))
	}
	host := strings.ToLower(entry.GetEqualFoldAttributeValue("dnsHostName"))
	ticket, err := center.serviceTicket(ctx, "ldap/"+host)
	if err != nil {
		return fmt.Errorf("bind as %q: %w", principal, err)
	}
	n := &gssapiClient{ticket: ticket, binding: channelBinding(c.tls.ConnectionState())}
	limit, _ := ctx.Deadline()
	err = c.do(ctx, time.Until(limit), func() error { return c.ldap.GSSAPIBind(n, "", "") })
	result, answered := fromServer(err)
	switch {
	case answered && result.ResultCode == ldap.LDAPResultStrongAuthRequired:
		return newError(ErrRefused, "bind as %q: the controller requires signing or sealing although the connection "+
			"is encrypted; on Samba older than 4.21 set \"ldap server require strong auth = allow_sasl_over_tls\" "+
			"(LDAP 8 %s)", principal, diagnostic(result))
	case answered:
		return ticketError(principal, result)
	}
	if err = cmp.Or(n.err, err); err != nil {
		return fmt.Errorf("bind as %q: %w", principal, err)
	}
	return nil
}

// bindPassword runs a simple bind with name and password (RFC 4513 section 5.1.3).
func (c *Conn) bindPassword(ctx context.Context) error {
	secret, err := c.config.password()
	if err != nil {
		return err
	}
	limit, _ := ctx.Deadline()
	err = c.do(ctx, time.Until(limit), func() error { return c.ldap.Bind(c.config.BindDN, string(secret)) })
	if result, ok := fromServer(err); ok {
		return bindError(c.config.BindDN, result)
	}
	if err != nil {
		return fmt.Errorf("bind as %q: %w", c.config.BindDN, err)
	}
	return nil
}

// dialError explains a failure to connect.
func dialError(err error) error {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("canceled: %w", err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return newError(ErrUnreachable, "the host name does not resolve; correct the URL or the name server (%w)", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return newError(ErrUnreachable, "connection timed out; check the firewall and that the host is up (%w)", err)
	}
	advice := "check the host and the network"
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		advice = "no LDAP service listens there; check the host, the port (636 for ldaps, 389 for ldap) and that the " +
			"service runs"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		advice = "there is no route to it; check the network, the firewall and that the host is up"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		advice = "this system forbids the connection; check SELinux and the packet filter of this host"
	case errors.Is(err, syscall.ECONNRESET):
		advice = "the connection was reset; check the firewall"
	case errors.As(err, &dns):
		advice = "the name server does not answer properly; check /etc/resolv.conf and the name server"
	}
	return newError(ErrUnreachable, "cannot connect; %s (%w)", advice, err)
}

// connError prefers an error of the context or the connection to err, the error of an upper
// layer.
func (c *Conn) connError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if lost := c.raw.err(); lost != nil {
		return lost
	}
	return err
}
