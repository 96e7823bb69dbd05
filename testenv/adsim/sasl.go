package adsim

import (
	"crypto/x509"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

const (
	saslInProgress = 14   // RFC 4511 section 4.1.9
	tagServerCreds = 0x87 // RFC 4511 section 4.2.2
)

// sasl handles one step of a SASL bind. Like Active Directory with channel binding, it works only
// over TLS: signing and sealing are not simulated.
func (c *session) sasl(id int64, auth *ber.Packet) error {
	refuse := func(code int, diagnostic string) error {
		c.acceptor, c.bound = nil, false
		c.server.count(func(s *Stats) { s.FailedBinds++ })
		return c.send(message(id, result(tagBindResponse, code, diagnostic)))
	}
	switch faults := c.server.currentFaults(); {
	case faults.BindSubCode != "":
		return refuse(ldap.LDAPResultInvalidCredentials, subCode(faults.BindSubCode))
	case faults.BindResult != 0:
		return refuse(faults.BindResult, "00000000: LdapErr: DSID-0C090259, comment: as the test wants it")
	}
	accept := c.server.config.Accept
	if !c.tls || accept == nil || len(auth.Children) == 0 || packetText(auth.Children[0]) != "GSSAPI" {
		return refuse(ldap.LDAPResultAuthMethodNotSupported, "00002027: LdapErr: DSID-0C090539, comment: Invalid "+
			"Authentication method, data 0, v4563")
	}
	if c.acceptor == nil {
		certificate, err := x509.ParseCertificate(c.server.tlsConfig().Certificates[0].Certificate[0])
		if err != nil {
			return err
		}
		c.acceptor = accept(certificate)
	}
	var credentials []byte
	if len(auth.Children) > 1 {
		credentials = auth.Children[1].Data.Bytes()
	}
	answer, done, err := c.acceptor(credentials)
	switch {
	case err != nil:
		return refuse(ldap.LDAPResultInvalidCredentials, err.Error())
	case !done:
		return c.send(message(id, result(tagBindResponse, saslInProgress, "", tlv(tagServerCreds, answer))))
	}
	c.acceptor, c.bound = nil, true
	c.server.count(func(s *Stats) { s.Binds++ })
	return c.send(message(id, result(tagBindResponse, 0, "")))
}
