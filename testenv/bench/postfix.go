package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rcpt-milter/testenv"
)

// candidate is one way for smtpd to know recipients.
type candidate struct {
	name    string
	options []string // of its smtpd
	program string   // the process that answers; empty means smtpd itself
	known   int      // the number of known addresses; 0 means all
	all     bool     // it refuses nothing
	probes  probing  // whether it asks the next host with probes
}

// probing is how a candidate with reject_unverified_recipient is measured.
type probing int

const (
	noProbes probing = iota
	cached           // all recipients are in the cache of probes
	uncached         // no recipient is: each RCPT waits for a probe
)

const noCheck, lmdb, mapName = "no check", "lmdb table", "rcpt-milter, socketmap"

// nextHost is the smtpd that probes ask. It stands for the mail server behind the relay, and has the lmdb table.
const nextHost = "next host"

// verified are the settings of a relay with reject_unverified_recipient. By default it answers 450 to unknown
// recipients.
var verified = []string{
	"smtpd_relay_restrictions=reject_unauth_destination,reject_unverified_recipient",
	"unverified_recipient_reject_code=550",
}

func (l *laboratory) candidates() []*candidate {
	if l.load > 0 {
		return []*candidate{{name: daemonName, options: []string{"smtpd_milters=unix:/bench/rcpt.sock",
			"smtpd_authorized_xclient_hosts=127.0.0.0/8"}}}
	}
	list := []*candidate{
		{name: noCheck, all: true},
		{name: lmdb, options: []string{"relay_recipient_maps=lmdb:/bench/recipients"}},
		{name: "cdb table", options: []string{"relay_recipient_maps=cdb:/bench/recipients"}},
	}
	for _, m := range milters {
		list = append(list, &candidate{name: m.name, program: m.program,
			options: []string{"smtpd_milters=unix:/bench/" + m.socket}})
	}
	list = append(list, &candidate{name: mapName, program: daemonProgram,
		options: []string{"relay_recipient_maps=socketmap:unix:/bench/map.sock:recipients"}})
	list = append(list,
		&candidate{name: "reject_unverified_recipient, cached", known: probedUsers, probes: cached,
			options: append([]string{"address_verify_poll_count=1"}, verified...)},
		&candidate{name: "reject_unverified_recipient, not cached", probes: uncached, options: verified})
	if l.samba {
		for _, table := range []string{"ldap:/bench/ldap.cf", "proxy:ldap:/bench/ldap.cf"} {
			kind, _, _ := strings.Cut(table, ":/")
			list = append(list, &candidate{name: kind + " table, live", known: sambaUsers,
				options: []string{"relay_recipient_maps=" + table}})
		}
	}
	return list
}

const mainCF = `compatibility_level = 3.6
maillog_file = /dev/stdout
myhostname = bench.example
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
notify_classes =
biff = no
relay_domains = corp.example
relay_transport = smtp:[127.0.0.1]:%d
parent_domain_matches_subdomains =
relay_recipient_maps =
proxy_read_maps = proxy:ldap:/bench/ldap.cf
disable_dns_lookups = yes
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_milters =
milter_protocol = 6
milter_default_action = tempfail
in_flow_delay = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 100000000
smtpd_hard_error_limit = 100000000
smtpd_junk_command_limit = 100000000
smtpd_recipient_limit = 100000
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
show_user_unknown_table_name = no
`

const masterCF = `cleanup   unix  n       -       n       -       0       cleanup
pickup    unix  n       -       n       60      1       pickup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`

const ldapCF = `server_host = ldaps://%s
version = 3
tls_require_cert = no
bind = yes
bind_dn = %s
bind_pw = %s
search_base = %s
query_filter = (proxyAddresses=smtp:%%s)
result_attribute = sAMAccountName
`

// startPostfix writes the tables and settings, and starts the container.
func (l *laboratory) startPostfix(ctx context.Context) error {
	var table strings.Builder
	if l.load == 0 {
		for i := range l.addresses {
			fmt.Fprintf(&table, "%s OK\n", address(i))
		}
	}
	master := masterCF
	ports := map[string]int{}
	backend := &candidate{name: nextHost, options: []string{"relay_recipient_maps=lmdb:/bench/recipients",
		"myhostname=next.example"}}
	for _, c := range append(l.candidates(), backend) {
		port, err := freePort()
		if err != nil {
			return err
		}
		ports[c.name] = port
		master += fmt.Sprintf("127.0.0.1:%d inet n - n - 400 smtpd\n  -o syslog_name=bench/%d\n", port, port)
		for _, o := range c.options {
			master += "  -o " + o + "\n"
		}
	}
	l.ports = ports
	files := map[string]string{"recipients": table.String(), "main.cf": fmt.Sprintf(mainCF, ports[nextHost]),
		"master.cf": master}
	if l.samba {
		if err := l.startSamba(ctx); err != nil {
			return err
		}
		files["ldap.cf"] = fmt.Sprintf(ldapCF, l.sambaHost, testenv.MailAccount, testenv.MailPassword, testenv.BaseDN)
	}
	for name, text := range files {
		if err := os.WriteFile(l.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	l.container = fmt.Sprintf("rcpt-milter-bench-%d", os.Getpid())
	if err := docker(ctx, "run", "--detach", "--network", "host", "--name", l.container,
		"--volume", l.dir+":/bench", l.setup.Image(testenv.Bench)); err != nil {
		return err
	}
	// The tables of a million addresses take their time.
	return testenv.Await(ctx, time.Second/10, func(ctx context.Context) (bool, error) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[l.candidates()[0].name]))
		if err == nil {
			return true, conn.Close()
		}
		state, stateErr := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.State.Running}}",
			l.container).Output()
		if stateErr != nil || strings.TrimSpace(string(state)) != "true" {
			logs, _ := exec.CommandContext(ctx, "docker", "logs", "--tail", "20", l.container).CombinedOutput()
			return false, fmt.Errorf("the container with Postfix has ended: %s", logs)
		}
		return false, nil
	})
}

// freePort returns a port of 127.0.0.1 that was free a moment ago.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// sambaUsers is the number of recipients in Samba. A million would take it hours.
const sambaUsers = 1000

// startSamba starts the harness, adds users to its directory and sets sambaHost, because the published port leads
// through a proxy.
func (l *laboratory) startSamba(ctx context.Context) (err error) {
	if l.harness, err = l.setup.Up(ctx); err != nil {
		return err
	}
	domain, err := l.harness.Administrator(ctx)
	if err != nil {
		return err
	}
	defer domain.Close()
	for i := range sambaUsers {
		name := fmt.Sprintf("bench%04d", i)
		_, err := domain.AddUser(testenv.Person{Name: name, Mail: address(i), Proxies: []string{"SMTP:" + address(i)}})
		if err != nil {
			return err
		}
	}
	l.sambaHost, err = l.harness.InternalAddress(ctx, testenv.DC)
	return err
}

// postfixRounds measures all candidates in turn: eight sessions as fast as they are answered, and
// then one.
func (l *laboratory) postfixRounds(ctx context.Context) error {
	if err := l.fillProbes(ctx); err != nil {
		return err
	}
	for _, sessions := range []int{8, 1} {
		list := l.candidates()
		rounds := make([][]measurement, len(list))
		for range l.rounds {
			for i, c := range list {
				m, err := l.postfixRound(ctx, c, sessions)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				rounds[i] = append(rounds[i], m)
			}
		}
		for _, kind := range []struct {
			name string
			of   func(measurement) float64
			base string
		}{
			{"RCPT/s", func(m measurement) float64 { return m.rate }, lmdb},
			{"µs per RCPT, median", func(m measurement) float64 { return m.median }, lmdb},
			{"µs per RCPT, 99th percentile", func(m measurement) float64 { return m.p99 }, lmdb},
			{"µs CPU per RCPT, whole machine", func(m measurement) float64 { return m.machine }, lmdb},
			{"µs CPU per RCPT, milter", func(m measurement) float64 { return m.milter }, epollName},
		} {
			for i, c := range list {
				if c.program == "" && kind.base != lmdb {
					continue
				}
				v := value{Quantity: fmt.Sprintf("%s, Postfix, %d sessions", kind.name, sessions), Candidate: c.name,
					Base: kind.base}
				for _, m := range rounds[i] {
					v.Rounds = append(v.Rounds, kind.of(m))
				}
				l.result.add(v)
			}
		}
	}
	return nil
}

// unasked is how many recipients a session may ask for that no other session asks for. One takes 3 seconds.
const unasked = 20

// recipientOf returns the recipient number i of a candidate's load, and whether it is known.
func (l *laboratory) recipientOf(c *candidate, i int) (string, bool) {
	switch {
	case c.probes == cached:
		to, known := recipient(i, c.known)
		for n := 2; l.failed[to]; n += 2 { // the next one of the same kind
			to, known = recipient(i+n, c.known)
		}
		return to, known
	case c.probes != uncached:
		return recipient(i, cmp.Or(c.known, l.addresses))
	case i%2 == 0:
		return address(probedUsers + i), true
	}
	return unknown(probedUsers + i), false
}

// measurement is one candidate in one round. Times are microseconds.
type measurement struct{ rate, median, p99, machine, milter float64 }

func (l *laboratory) postfixRound(ctx context.Context, c *candidate, sessions int) (m measurement, err error) {
	pid, before := 0, time.Duration(0)
	if c.program != "" {
		if pid, err = l.processOf(c.program); err != nil {
			return m, err
		}
		if before, err = processTime(pid); err != nil {
			return m, err
		}
	}
	machine, err := machineTime()
	if err != nil {
		return m, err
	}
	began := time.Now()
	latencies, err := l.smtpLoad(ctx, c, sessions)
	if err != nil {
		return m, err
	}
	took := time.Since(began)
	machineAfter, err := machineTime()
	if err != nil {
		return m, err
	}
	if pid != 0 {
		after, err := processTime(pid)
		if err != nil {
			return m, err
		}
		m.milter = perDecision(after-before, len(latencies))
	}
	slices.Sort(latencies)
	micro := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Nanoseconds()) / 1000
	}
	m.rate = float64(len(latencies)) / took.Seconds()
	m.median, m.p99, m.machine = micro(0.5), micro(0.99), perDecision(machineAfter-machine, len(latencies))
	return m, nil
}

// smtpLoad runs SMTP sessions for one round and returns the time of each RCPT.
func (l *laboratory) smtpLoad(ctx context.Context, c *candidate, sessions int) ([]time.Duration, error) {
	round, cancel := context.WithTimeout(ctx, l.length)
	defer cancel()
	latencies, errs := make([][]time.Duration, sessions), make([]error, sessions)
	var running sync.WaitGroup
	for s := range sessions {
		running.Go(func() { latencies[s], errs[s] = l.smtpSession(ctx, round, c, s) })
	}
	running.Wait()
	all := slices.Concat(latencies...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("no RCPT was answered in a round")
	}
	return all, nil
}

// openSMTP opens a session with the smtpd of a candidate.
func (l *laboratory) openSMTP(ctx context.Context, c *candidate) (*testenv.Session, error) {
	conn, err := testenv.DialSMTP(ctx, "127.0.0.1:"+strconv.Itoa(l.ports[c.name]))
	if err != nil {
		return nil, err
	}
	if err := conn.Open(""); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// smtpSession is one client until the end of the round. It checks each answer.
func (l *laboratory) smtpSession(ctx, round context.Context, c *candidate, session int) ([]time.Duration, error) {
	conn, err := l.openSMTP(ctx, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var latencies []time.Duration
	at := session * 7919
	if c.probes == uncached {
		at = int(l.asked.Add(unasked))
	}
	for ; round.Err() == nil; at++ {
		if len(latencies)%recipientsPerMail == 0 {
			for _, line := range []string{"RSET", "MAIL FROM:<sender@elsewhere.example>"} {
				if reply, err := conn.Do(line); err != nil || reply.Code() != 250 {
					return nil, fmt.Errorf("%s: %s: %w", line, reply, err)
				}
			}
		}
		to, isKnown := l.recipientOf(c, at)
		began := time.Now()
		reply, err := conn.Do("RCPT TO:<" + to + ">")
		if err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(began))
		want := 250
		if !isKnown && !c.all {
			want = 550
		}
		if reply.Code() != want && !(c.probes == uncached && reply.Code() == 450) {
			// the probe takes longer than the RCPT
			return nil, fmt.Errorf("wrong answer to %s: %s", to, reply)
		}
	}
	return latencies, nil
}
