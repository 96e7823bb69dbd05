package adsim

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// Operations of RFC 4511, by their application tag.
const (
	opBind     = 0
	opUnbind   = 2
	opSearch   = 3
	opAbandon  = 16
	opExtended = 23
)

const (
	oidStartTLS = "1.3.6.1.4.1.1466.20037"
	oidWhoAmI   = "1.3.6.1.4.1.4203.1.11.3"
)

// errSessionEnd ends a session without an error.
var errSessionEnd = errors.New("session ended")

// session is one connection. It answers requests one after the other.
type session struct {
	server *Server
	raw    net.Conn
	ended  chan struct{} // closed by abort
	once   sync.Once
	out    sync.Mutex // held while one answer is written

	// Used by the goroutine of the session only.
	conn    net.Conn // raw, or TLS over it
	in      *bufio.Reader
	tls     bool
	bound   bool
	view    view
	cookies map[string]cursor
	issued  int

	notifications int      // registered
	acceptor      Acceptor // of a bind under way; nil: none is
}

func newSession(s *Server, raw net.Conn) *session {
	return &session{
		server: s, raw: raw, ended: make(chan struct{}),
		conn: raw, in: bufio.NewReader(raw), cookies: map[string]cursor{},
	}
}

// abort resets the connection at once; any goroutine may call it.
func (c *session) abort() {
	c.once.Do(func() {
		close(c.ended)
		if tcp, ok := c.raw.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.raw.Close()
	})
}

// switchToTLS continues over TLS.
func (c *session) switchToTLS(conn *tls.Conn) {
	c.conn, c.in, c.tls = conn, bufio.NewReader(conn), true
}

// serve answers requests until the connection ends.
func (c *session) serve() {
	if c.server.currentFaults().SilentAccept {
		c.discardInput()
		return
	}
	for {
		p, err := ber.ReadPacket(c.in)
		if err != nil || len(p.Children) < 2 || c.answer(p) != nil {
			return
		}
	}
}

// discardInput reads and sends nothing until the client leaves or the server goes down.
func (c *session) discardInput() error {
	io.Copy(io.Discard, c.in)
	return errSessionEnd
}

// answer handles one request; an error ends the session.
func (c *session) answer(p *ber.Packet) error {
	if c.server.currentFaults().Silent {
		return c.discardInput()
	}
	id, _ := p.Children[0].Value.(int64)
	op := p.Children[1]
	switch op.Tag {
	case opBind:
		return c.bind(id, op)
	case opSearch:
		var controls []*ber.Packet
		if len(p.Children) > 2 {
			controls = p.Children[2].Children
		}
		return c.search(id, op, controls)
	case opExtended:
		return c.extended(id, op)
	case opAbandon:
		return nil
	case opUnbind:
		c.conn.Close() // with a TLS close message
		return errSessionEnd
	}
	return errSessionEnd
}

func (c *session) send(b []byte) error {
	c.out.Lock()
	defer c.out.Unlock()
	_, err := c.conn.Write(b)
	return err
}

// bind handles a simple bind (RFC 4511 section 4.2), or a step of a SASL bind.
func (c *session) bind(id int64, op *ber.Packet) error {
	if len(op.Children) != 3 {
		return errSessionEnd
	}
	faults := c.server.currentFaults()
	if faults.SilentBind {
		return c.discardInput()
	}
	if op.Children[2].Tag == 3 {
		return c.sasl(id, op.Children[2])
	}
	name, password := packetText(op.Children[1]), packetText(op.Children[2])
	code, diagnostic := c.checkBind(name, password, faults)
	c.bound = code == 0 && password != ""
	c.view.hidden, _ = c.server.account(name)
	c.server.count(func(s *Stats) {
		switch {
		case code != 0:
			s.FailedBinds++
		case password == "" && name != "":
			s.NoPassword++
		default:
			s.Binds++
		}
		if !c.tls && password != "" {
			s.ClearBinds++
		}
	})
	return c.send(message(id, result(tagBindResponse, code, diagnostic)))
}

// checkBind decides a bind and returns the texts of Active Directory.
func (c *session) checkBind(name, password string, faults Faults) (code int, diagnostic string) {
	switch {
	case !c.tls && password != "":
		return ldap.LDAPResultStrongAuthRequired, "00002028: LdapErr: DSID-0C090259, comment: The server requires " +
			"binds to turn on integrity checking if SSL\\TLS are not already active on the connection, data 0, v4563"
	case faults.BindSubCode != "":
		return ldap.LDAPResultInvalidCredentials, subCode(faults.BindSubCode)
	case faults.BindResult != 0:
		return faults.BindResult, "00000000: LdapErr: DSID-0C090259, comment: as the test wants it"
	case password == "":
		return ldap.LDAPResultSuccess, ""
	case !c.server.mayBind(name):
		return ldap.LDAPResultInvalidCredentials, subCode("525")
	case password != c.server.Password():
		return ldap.LDAPResultInvalidCredentials, subCode("52e")
	}
	return ldap.LDAPResultSuccess, ""
}

// subCode returns the text of a rejected bind; like Active Directory it ends with a zero byte.
func subCode(data string) string {
	return fmt.Sprintf("80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data %s, v4563\x00",
		data)
}

// extended handles StartTLS (RFC 4511 section 4.14) and "Who am I?" (RFC 4532).
func (c *session) extended(id int64, op *ber.Packet) error {
	oid := ""
	if len(op.Children) > 0 {
		oid = packetText(op.Children[0])
	}
	name := tlv(tagResponseName, []byte(oid))
	switch {
	case oid == oidStartTLS && !c.tls:
		return c.startTLS(id, name)
	case oid == oidWhoAmI:
		return c.send(message(id, result(tagExtendedResponse, 0, "", tlv(0x8b, []byte("u:"+c.server.config.BindDN)))))
	}
	return c.send(message(id, result(tagExtendedResponse, ldap.LDAPResultProtocolError, "unknown extended operation",
		name)))
}

func (c *session) startTLS(id int64, name []byte) error {
	faults := c.server.currentFaults()
	if faults.RefuseStartTLS {
		return c.send(message(id, result(tagExtendedResponse, ldap.LDAPResultUnavailable,
			"00000000: LdapErr: DSID-0C09122A, comment: Error initializing SSL/TLS, data 0, v4563", name)))
	}
	answer := message(id, result(tagExtendedResponse, 0, "", name))
	if err := c.send(append(answer, faults.InjectStartTLS...)); err != nil {
		return err
	}
	conn := tls.Server(c.raw, c.server.tlsConfig())
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.switchToTLS(conn)
	c.server.count(func(s *Stats) { s.StartTLS++ })
	return nil
}
