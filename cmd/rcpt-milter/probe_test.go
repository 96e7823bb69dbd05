package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 45 * time.Second

// prober is one session of an MTA with a daemon.
type prober struct {
	net.Conn
	reader *bufio.Reader
}

// dialMilter begins a session as Postfix does.
func dialMilter(path string) (*prober, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	p := &prober{c, bufio.NewReader(c)}
	c.SetDeadline(time.Now().Add(patience))
	if _, err = io.WriteString(c, packet('O', "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")); err == nil {
		var code byte
		if code, _, err = p.reply(); err == nil && code != 'O' {
			err = fmt.Errorf("negotiation is answered %c", code)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return p, nil
}

// ask gives the reply to a RCPT: continue, or a line of SMTP.
func (p *prober) ask(recipient string) (string, error) { return p.askAs("", recipient) }

// askAs asks for a client, with more macros.
func (p *prober) askAs(macros, recipient string) (string, error) {
	p.SetDeadline(time.Now().Add(patience))
	command := packet('D', "R{rcpt_addr}\x00"+recipient+"\x00"+macros) + packet('R', "<"+recipient+">\x00")
	if _, err := io.WriteString(p, command); err != nil {
		return "", err
	}
	code, data, err := p.reply()
	switch {
	case err != nil:
		return "", err
	case code == 'c':
		return "continue", nil
	case code == 'y':
		return strings.TrimSuffix(data, "\x00"), nil
	default:
		return "", fmt.Errorf("RCPT %s is answered %c %q", recipient, code, data)
	}
}

func (p *prober) reply() (byte, string, error) {
	var header [4]byte
	if _, err := io.ReadFull(p.reader, header[:]); err != nil {
		return 0, "", err
	}
	data := make([]byte, binary.BigEndian.Uint32(header[:]))
	if _, err := io.ReadFull(p.reader, data); err != nil {
		return 0, "", err
	}
	return data[0], string(data[1:]), nil
}

func packet(command byte, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(command) + data
}

func (r *rig) milterSocket() string { return filepath.Join(r.dir, "milter/milter.sock") }

// probe asks about recipients in one session, again and again until stop is called, and
// complains of every reply that does not begin as it must: with one of the words, if
// several are allowed.
func (r *rig) probe(allowed map[string]string) (stop func()) {
	r.t.Helper()
	p, err := dialMilter(r.milterSocket())
	if err != nil {
		r.t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer p.Close()
		for {
			for recipient, replies := range allowed {
				got, err := p.ask(recipient)
				if err != nil || !begins(got, replies) {
					r.t.Errorf("RCPT %s: %q, %v, want %s", recipient, got, err, replies)
					return
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	return func() { close(done); <-ended }
}

func begins(reply, words string) bool {
	for word := range strings.FieldsSeq(words) {
		if strings.HasPrefix(reply, word) {
			return true
		}
	}
	return false
}

// want asks once.
func (p *prober) want(t *testing.T, recipient, reply string) {
	t.Helper()
	if got, err := p.ask(recipient); err != nil || !begins(got, reply) {
		t.Errorf("RCPT %s: %q, %v, want %s", recipient, got, err, reply)
	}
}
