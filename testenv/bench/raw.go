package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const daemonName, epollName = "rcpt-milter", "milter in C, epoll"

// daemonProgram is the file name of the daemon.
const daemonProgram = "rcpt-milter"

// milters are the daemon and the milters in C, by the name in the table.
var milters = []struct{ name, program, socket string }{
	{epollName, "bench-epoll", "epoll.sock"},
	{"milter in C, libmilter", "bench-libmilter", "libmilter.sock"},
	{daemonName, daemonProgram, "rcpt.sock"},
}

// rawRounds measures the milters without Postfix, as many RCPTs as they answer.
func (l *laboratory) rawRounds(ctx context.Context) error {
	for _, sessions := range []int{1, 16} {
		rates, costs := make([]value, len(milters)), make([]value, len(milters))
		for i, m := range milters {
			with := fmt.Sprintf("raw milter protocol, %d sessions", sessions)
			rates[i] = value{Quantity: "decisions/s, " + with, Candidate: m.name, Base: epollName}
			costs[i] = value{Quantity: "µs CPU per decision, " + with, Candidate: m.name, Base: epollName}
		}
		for range l.rounds {
			for i, m := range milters {
				pid, err := l.processOf(m.program)
				if err != nil {
					return err
				}
				before, err := processTime(pid)
				if err != nil {
					return err
				}
				began := time.Now()
				n, err := l.rawLoad(ctx, l.path(m.socket), sessions)
				if err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				took := time.Since(began)
				after, err := processTime(pid)
				if err != nil {
					return err
				}
				rates[i].Rounds = append(rates[i].Rounds, float64(n)/took.Seconds())
				costs[i].Rounds = append(costs[i].Rounds, perDecision(after-before, n))
			}
		}
		for _, v := range append(rates, costs...) {
			l.result.add(v)
		}
	}
	return nil
}

// processOf returns the process that runs a program. On a machine where other daemons run too, it is
// the one of this run.
func (l *laboratory) processOf(program string) (int, error) {
	if program == daemonProgram {
		return l.daemon.Process.Pid, nil
	}
	return findProcess(program)
}

func perDecision(cpu time.Duration, n int) float64 {
	return float64(cpu.Nanoseconds()) / 1000 / float64(max(1, n))
}

// rawLoad runs sessions for one round and returns how many RCPTs were answered.
func (l *laboratory) rawLoad(ctx context.Context, socket string, sessions int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, l.length)
	defer cancel()
	counts, errs := make([]int, sessions), make([]error, sessions)
	var running sync.WaitGroup
	for s := range sessions {
		running.Go(func() { counts[s], errs[s] = l.rawSession(ctx, socket, s) })
	}
	running.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, errors.Join(errs...)
}

// rawSession asks for one recipient after the other, alternately known and unknown, and checks each
// answer.
func (l *laboratory) rawSession(ctx context.Context, socket string, session int) (int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	c := &milterClient{conn: conn, read: bufio.NewReader(conn)}
	if err := c.open(); err != nil {
		return 0, err
	}
	n := 0
	for at := session * 7919; ctx.Err() == nil; at++ {
		if n%recipientsPerMail == 0 {
			if err := c.mail(); err != nil {
				return n, err
			}
		}
		recipient, want := recipient(at, l.addresses)
		refused, err := c.rcpt(recipient)
		if err != nil {
			return n, err
		}
		if refused == want {
			return n, fmt.Errorf("wrong answer to %s: refused is %t", recipient, refused)
		}
		n++
	}
	return n, nil
}

// recipientsPerMail is the number of RCPT commands between two MAIL commands.
const recipientsPerMail = 50

// recipient returns the recipient number i of a load, and whether it is known. It walks through
// all addresses in an order that no cache can guess.
func recipient(i, addresses int) (string, bool) {
	const step = 2_654_435_761 // Knuth's multiplicative hash
	at := int(uint64(i) * step % uint64(addresses))
	if i%2 == 0 {
		return address(at), true
	}
	return unknown(at), false
}

// milterClient speaks the part of the milter protocol that Postfix's smtpd speaks up to RCPT TO.
type milterClient struct {
	conn net.Conn
	read *bufio.Reader
	out  []byte
}

func (c *milterClient) packet(command byte, data ...string) {
	n := 1
	for _, d := range data {
		n += len(d)
	}
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
	c.out = append(c.out, command)
	for _, d := range data {
		c.out = append(c.out, d...)
	}
}

// ask sends the packets and returns the command of the answer.
func (c *milterClient) ask() (command byte, err error) {
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, err
	}
	c.out = c.out[:0]
	var head [5]byte
	if _, err := io.ReadFull(c.read, head[:]); err != nil {
		return 0, err
	}
	_, err = c.read.Discard(int(binary.BigEndian.Uint32(head[:4])) - 1)
	return head[4], err
}

func (c *milterClient) expect(want byte) error {
	got, err := c.ask()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("answer %q, want %q", got, want)
	}
	return nil
}

// open negotiates. The client and HELO are sent as far as the milter wants them; all three
// candidates accept them.
func (c *milterClient) open() error {
	c.packet('O', "\x00\x00\x00\x06", "\x00\x00\x01\xff", "\x00\x1f\xff\xff")
	if err := c.expect('O'); err != nil {
		return err
	}
	c.packet('C', "client.example\x00", "4", "\xc3\x50", "192.0.2.1\x00")
	if err := c.expect('c'); err != nil {
		return err
	}
	c.packet('H', "client.example\x00")
	return c.expect('c')
}

func (c *milterClient) mail() error {
	c.packet('A')
	c.packet('M', "<sender@elsewhere.example>\x00")
	return c.expect('c')
}

// rcpt sends the macros that Postfix sends and a recipient, and reports whether it is refused.
func (c *milterClient) rcpt(recipient string) (refused bool, err error) {
	c.packet('D', "R", "{rcpt_addr}\x00", recipient, "\x00", "{rcpt_host}\x00corp.example\x00",
		"{rcpt_mailer}\x00smtp\x00")
	c.packet('R', "<", recipient, ">\x00")
	command, err := c.ask()
	if err == nil && command != 'c' && command != 'y' {
		err = fmt.Errorf("answer %q to %s", command, recipient)
	}
	return command == 'y', err
}
