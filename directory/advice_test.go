package directory

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDialAdvice: each reason why a controller is not reachable names the remedy.
func TestDialAdvice(t *testing.T) {
	system := func(number syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", number)}
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"refused", system(syscall.ECONNREFUSED), "no LDAP service listens there; check the host, the port"},
		{"no route", system(syscall.EHOSTUNREACH), "check the network, the firewall"},
		{"network", system(syscall.ENETUNREACH), "check the network, the firewall"},
		{"denied", system(syscall.EACCES), "check SELinux"},
		{"packet filter", system(syscall.EPERM), "check SELinux and the packet filter"},
		{"reset", system(syscall.ECONNRESET), "check the firewall"},
		{"timeout", system(syscall.ETIMEDOUT), "check the firewall and that the host is up"},
		{"no such host", &net.DNSError{Err: "no such host", Name: "dc9", IsNotFound: true},
			"correct the URL or the name server"},
		{"name server", &net.DNSError{Err: "server misbehaving", Name: "dc9"}, "check /etc/resolv.conf"},
		{"other", errors.New("boom"), "check the host and the network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := dialError(c.err)
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("dialError = %v, want ErrUnreachable with %q", err, c.want)
			}
		})
	}
}

func TestForestGrantee(t *testing.T) {
	forest := Forest{Domains: []ForestDomain{{"DC=corp,DC=example", "corp.example", "CORP"}, {"DC=x", "x", ""}}}
	for _, c := range []struct{ name, account, context, want string }{
		{"known", "svc-mail", "dc=corp,dc=example", `CORP\svc-mail`},
		{"unknown account", "", "DC=corp,DC=example", ""},
		{"unknown domain", "svc-mail", "DC=other", ""},
		{"domain without a short name", "svc-mail", "DC=x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := forest.Grantee(Account{Name: c.account}, c.context); got != c.want {
				t.Errorf("Grantee = %q, want %q", got, c.want)
			}
		})
	}
}
