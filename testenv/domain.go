package testenv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The domain of dc1 and its accounts. They exist only in the harness.
const (
	BaseDN        = "DC=corp,DC=example"
	StaffOU       = "OU=Staff," + BaseDN
	BerlinOU      = "OU=Berlin,OU=Staff," + BaseDN
	LeaversOU     = "OU=Leavers," + BaseDN
	GroupsOU      = "OU=Groups," + BaseDN
	ContactsOU    = "OU=Contacts," + BaseDN
	SharedOU      = "OU=Shared," + BaseDN
	AdminAccount  = "Administrator@corp.example"
	AdminPassword = "Passw0rd.Admin"
	MailAccount   = "svc-mail@corp.example" // may list deleted objects
	MailPassword  = "Passw0rd.Mail"
	MailDN        = "CN=svc-mail,OU=Service," + BaseDN
	PlainAccount  = "svc-plain@corp.example" // may not list them
	PlainPassword = "Passw0rd.Plain"
)

// ldapDeadline limits one LDAP request; Samba takes milliseconds.
const ldapDeadline = 30 * time.Second

// Domain is one LDAP connection to a domain controller, bound as some account.
type Domain struct {
	conn *ldap.Conn
	name string // of the service
}

// HostOf returns the DNS name of a domain controller.
func HostOf(service string) string { return service + ".corp.example" }

// Host returns the DNS name of the domain controller.
func (d *Domain) Host() string { return HostOf(d.name) }

// Administrator connects to dc1 over LDAPS as the administrator. The caller closes it.
func (h *Harness) Administrator(ctx context.Context) (*Domain, error) {
	return h.AdministratorOf(ctx, DC)
}

// AdministratorOf is Administrator for any of the domain controllers.
func (h *Harness) AdministratorOf(ctx context.Context, service string) (*Domain, error) {
	return h.Bind(ctx, service, AdminAccount, AdminPassword)
}

// Bind connects to a domain controller over LDAPS as an account of the domain.
func (h *Harness) Bind(ctx context.Context, service, account, password string) (*Domain, error) {
	address, err := h.Address(ctx, service, 636)
	if err != nil {
		return nil, err
	}
	config, err := h.tlsConfig(ctx, service)
	if err != nil {
		return nil, err
	}
	conn, err := ldap.DialURL("ldaps://"+address,
		ldap.DialWithTLSConfig(config), ldap.DialWithDialer(&net.Dialer{Timeout: ldapDeadline}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", service, err)
	}
	conn.SetTimeout(ldapDeadline)
	if err := conn.Bind(account, password); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: bind as %s: %w", service, account, err)
	}
	return &Domain{conn: conn, name: service}, nil
}

// tlsConfig returns a TLS configuration that trusts the harness's certificate authority.
func (h *Harness) tlsConfig(ctx context.Context, service string) (*tls.Config, error) {
	authority, err := h.ReadFile(ctx, DC, "/ca/ca.pem")
	if err != nil { // dc1 is down
		authority, err = h.ReadFile(ctx, Milter, "/ca/ca.pem")
	}
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(authority)) {
		return nil, errors.New("dc1: /ca/ca.pem holds no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: HostOf(service)}, nil
}

// UseCertificate makes dc1 use another certificate: "good", "expired" or "unknown-ca". It
// restarts dc1 unless dc1 uses that certificate already.
func (h *Harness) UseCertificate(ctx context.Context, name string) error {
	const file = "/var/lib/samba/harness-tls/use"
	if now, err := h.ReadFile(ctx, DC, file); (err == nil && now == name) || (err != nil && name == "good") {
		return nil
	}
	if err := h.WriteFile(ctx, DC, file, name); err != nil {
		return err
	}
	return h.Restart(ctx, DC)
}

// ListDeleted grants an account, by its DN, the right to see deleted objects at dc1, or revokes
// it.
func (h *Harness) ListDeleted(ctx context.Context, account string, may bool) error {
	argv := []string{"grant-deleted.sh", account}
	if !may {
		argv = append(argv, "take")
	}
	return h.mustExec(ctx, DC, argv...)
}

// Close ends the connection.
func (d *Domain) Close() error { return d.conn.Close() }

// Person describes an object for AddUser, AddGroup and AddContact. Name is the common name and,
// for users and groups, the account name. OU is its parent, with a default for each kind. Mail
// is the mail attribute, Proxies the proxyAddresses with their prefixes. Empty fields set
// nothing. More holds further attributes.
type Person struct {
	Name, OU string
	Mail     string
	Proxies  []string
	More     map[string][]string
}

// add adds an object of a class and returns its DN.
func (d *Domain) add(p Person, class, ou string, own map[string][]string) (string, error) {
	if p.OU != "" {
		ou = p.OU
	}
	dn := "CN=" + ldap.EscapeDN(p.Name) + "," + ou
	request := ldap.NewAddRequest(dn, nil)
	request.Attribute("objectClass", []string{class})
	if p.Mail != "" {
		request.Attribute("mail", []string{p.Mail})
	}
	if len(p.Proxies) > 0 {
		request.Attribute("proxyAddresses", p.Proxies)
	}
	for _, attributes := range []map[string][]string{own, p.More} {
		for name, values := range attributes {
			request.Attribute(name, values)
		}
	}
	if err := d.conn.Add(request); err != nil {
		return "", fmt.Errorf("%s: add %s: %w", d.name, dn, err)
	}
	return dn, nil
}

// AddUser adds an enabled account.
func (d *Domain) AddUser(p Person) (dn string, err error) {
	// 544: a normal account that needs no password, which keeps adding fast.
	return d.add(p, "user", StaffOU, map[string][]string{"sAMAccountName": {p.Name}, "userAccountControl": {"544"}})
}

// AddShared adds a shared mailbox, which is a disabled account.
func (d *Domain) AddShared(p Person) (dn string, err error) {
	return d.add(p, "user", SharedOU, map[string][]string{
		"sAMAccountName": {p.Name}, "userAccountControl": {"546"}, "msExchRecipientTypeDetails": {"4"}})
}

// AddGroup adds a distribution group.
func (d *Domain) AddGroup(p Person) (dn string, err error) {
	return d.add(p, "group", GroupsOU, map[string][]string{"sAMAccountName": {p.Name}, "groupType": {"8"}})
}

// AddContact adds a contact.
func (d *Domain) AddContact(p Person) (dn string, err error) {
	return d.add(p, "contact", ContactsOU, nil)
}

// AddProxy adds one proxyAddresses value, with its prefix.
func (d *Domain) AddProxy(dn, value string) error {
	return d.modify(dn, func(m *ldap.ModifyRequest) { m.Add("proxyAddresses", []string{value}) })
}

// RemoveProxy removes one proxyAddresses value, spelled as it is stored.
func (d *Domain) RemoveProxy(dn, value string) error {
	return d.modify(dn, func(m *ldap.ModifyRequest) { m.Delete("proxyAddresses", []string{value}) })
}

// Set replaces all values of an attribute; no values remove it.
func (d *Domain) Set(dn, attribute string, values ...string) error {
	return d.modify(dn, func(m *ldap.ModifyRequest) { m.Replace(attribute, values) })
}

func (d *Domain) modify(dn string, change func(*ldap.ModifyRequest)) error {
	request := ldap.NewModifyRequest(dn, nil)
	change(request)
	if err := d.conn.Modify(request); err != nil {
		return fmt.Errorf("%s: modify %s: %w", d.name, dn, err)
	}
	return nil
}

// Move renames an object, moves it below another parent and returns the new DN. Its GUID stays.
func (d *Domain) Move(dn, name, ou string) (string, error) {
	rdn := "CN=" + ldap.EscapeDN(name)
	if err := d.conn.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, ou)); err != nil {
		return "", fmt.Errorf("%s: move %s: %w", d.name, dn, err)
	}
	return rdn + "," + ou, nil
}

// AddOU adds an organizational unit. An existing one is no error.
func (d *Domain) AddOU(name, parent string) error {
	request := ldap.NewAddRequest("OU="+ldap.EscapeDN(name)+","+parent, nil)
	request.Attribute("objectClass", []string{"organizationalUnit"})
	err := d.conn.Add(request)
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		return fmt.Errorf("%s: add %s: %w", d.name, request.DN, err)
	}
	return nil
}

// MoveOU moves an organizational unit, with its subtree, below another parent.
func (d *Domain) MoveOU(dn, parent string) error {
	rdn, _, _ := strings.Cut(dn, ",")
	if err := d.conn.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, parent)); err != nil {
		return fmt.Errorf("%s: move %s: %w", d.name, dn, err)
	}
	return nil
}

// Delete makes an object a tombstone. A missing object is no error.
func (d *Domain) Delete(dn string) error {
	err := d.conn.Del(ldap.NewDelRequest(dn, nil))
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return fmt.Errorf("%s: delete %s: %w", d.name, dn, err)
	}
	return nil
}

// DeleteTree deletes an object and its subtree. A missing object is no error.
func (d *Domain) DeleteTree(dn string) error {
	request := ldap.NewDelRequest(dn, []ldap.Control{ldap.NewControlString(treeDelete, true, "")})
	err := d.conn.Del(request)
	if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return fmt.Errorf("%s: delete all below %s: %w", d.name, dn, err)
	}
	return nil
}

// Undelete restores the tombstone of an object with this common name at a DN. Of several it takes
// the one deleted last. Attributes that the tombstone has lost stay lost.
func (d *Domain) Undelete(name, dn string) error {
	entries, err := d.Search(BaseDN, "(&(isDeleted=TRUE)(cn="+ldap.EscapeFilter(name)+"*))", []string{"whenChanged"},
		WithDeleted)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("%s: no tombstone of %s", d.name, name)
	}
	last := slices.MaxFunc(entries, func(a, b *ldap.Entry) int {
		return strings.Compare(a.GetAttributeValue("whenChanged"), b.GetAttributeValue("whenChanged"))
	})
	request := ldap.NewModifyRequest(last.DN, []ldap.Control{ldap.NewControlString(showDeleted, true, "")})
	request.Delete("isDeleted", nil)
	request.Replace("distinguishedName", []string{dn})
	if err := d.conn.Modify(request); err != nil {
		return fmt.Errorf("%s: undelete %s: %w", d.name, last.DN, err)
	}
	return nil
}
