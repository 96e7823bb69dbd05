package milter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	gomilter "github.com/emersion/go-milter"
)

// The server of the library allocates a writer of 4 KiB for each reply, and a map and two packets for each
// RCPT. A dialogue speaks the same protocol with the library's types and reuses its buffers.

// errCommand reports a command that no MTA sends.
var errCommand = errors.New("malformed milter command")

// A dialogue is a connection with its session. It is for one goroutine only.
type dialogue struct {
	conn     *conn
	session  *session
	modifier gomilter.Modifier // has the macros of the current stage
	out      []byte            // the last packet that was sent; its memory is reused
}

func newDialogue(c *conn) *dialogue {
	d := &dialogue{conn: c, session: &session{server: c.server}}
	d.modifier.Macros = make(map[string]string)
	return d
}

// run answers the commands of the MTA until the connection ends, and then closes it.
func (d *dialogue) run() {
	defer d.conn.Close()
	defer func() { // a panic ends only this session
		if v := recover(); v != nil {
			d.conn.server.log.Error("panic in a milter session", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	if err := d.conn.serve(d.packet); err != errEnded {
		d.conn.report(err)
	}
}

// codeUnknown is SMFIC_UNKNOWN, a command of the client that the MTA does not know. The library does not have it.
const codeUnknown gomilter.Code = 'U'

// errEnded ends a session whose end needs no further log line.
var errEnded = errors.New("the session has ended")

// packet handles a packet and reports whether it was answered.
func (d *dialogue) packet(p []byte) (answered bool, err error) {
	command := gomilter.Code(p[0])
	if command == gomilter.CodeQuit {
		return false, errEnded
	}
	if answered, err = d.answer(command, p[1:]); err != nil {
		d.conn.dropped(err)
		return false, errEnded
	}
	return answered, nil
}

// answer sends the reply to a command, and reports whether the command has one. data is valid only during the call.
func (d *dialogue) answer(command gomilter.Code, data []byte) (answered bool, err error) {
	reply := gomilter.Response(gomilter.RespContinue)
	switch command {
	case gomilter.CodeOptNeg:
		d.out = appendNegotiation(startPacket(d.out))
		return true, d.send()
	case gomilter.CodeMacro:
		return false, d.setMacros(data)
	case gomilter.CodeConn:
		reply, err = d.connect(data)
	case gomilter.CodeHelo:
		reply, err = d.session.Helo(strings.TrimSuffix(string(data), "\x00"), &d.modifier)
	case gomilter.CodeMail:
		reply, err = d.session.MailFrom(mailbox(data), &d.modifier)
	case gomilter.CodeRcpt:
		reply, err = d.session.RcptTo(mailbox(data), &d.modifier)
	case gomilter.CodeEOB:
		reply, err = d.session.Body(&d.modifier)
	case gomilter.CodeAbort:
		clear(d.modifier.Macros)
		return false, d.session.Abort(&d.modifier)
	case gomilter.CodeQuitNewConn:
		d.session.forget(&d.modifier)
		return false, nil
	case gomilter.CodeData, gomilter.CodeHeader, gomilter.CodeEOH, gomilter.CodeBody, codeUnknown:
	default:
		return false, fmt.Errorf("%w: unknown command %q", errCommand, byte(command))
	}
	if err != nil {
		return false, err
	}
	message := reply.Response()
	d.out = append(append(startPacket(d.out), message.Code), message.Data...)
	return true, d.send()
}

// send fills in the length of the packet in out and sends it.
func (d *dialogue) send() error {
	binary.BigEndian.PutUint32(d.out, uint32(len(d.out)-headerSize))
	_, err := d.conn.Write(d.out)
	return err
}

// startPacket returns a packet with room for its length, in the memory of a previous packet.
func startPacket(out []byte) []byte { return append(out[:0], make([]byte, headerSize)...) }

// connect handles CONNECT: name, family and, for TCP, port and address.
func (d *dialogue) connect(data []byte) (gomilter.Response, error) {
	name, rest, found := bytes.Cut(data, []byte{0})
	if !found || len(rest) == 0 {
		return nil, fmt.Errorf("%w: connect without a family", errCommand)
	}
	var port uint16
	family, rest := gomilter.ProtoFamily(rest[0]), rest[1:]
	if family == gomilter.FamilyInet || family == gomilter.FamilyInet6 {
		if len(rest) < 2 {
			return gomilter.RespTempFail, nil
		}
		port, rest = binary.BigEndian.Uint16(rest), rest[2:]
	}
	addr, _ := clientAddr(cString(rest)) // Sendmail sends "IPv6:" before an address of IPv6
	return d.session.Connect(string(name), string(family), port, addr.AsSlice(), &d.modifier)
}

// setMacros replaces the macros by those of a packet, which has the command that they are for, followed by
// names and values. A macro command has no reply.
func (d *dialogue) setMacros(data []byte) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: macros without a command", errCommand)
	}
	clear(d.modifier.Macros)
	for rest := strings.Trim(string(data[1:]), "\x00"); rest != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "\x00")
		value, rest, _ = strings.Cut(rest, "\x00")
		d.modifier.Macros[name] = value
	}
	if gomilter.Code(data[0]) == gomilter.CodeMail {
		d.session.beginMessage(d.modifier.Macros)
	}
	return nil
}

// appendNegotiation appends the answer to the options of an MTA: the protocol version, the actions, the
// commands that the MTA need not send, and the macros that it should send.
func appendNegotiation(out []byte) []byte {
	out = append(out, byte(gomilter.CodeOptNeg))
	for _, v := range []uint32{protocolVersion, uint32(gomilter.OptSetSymList), uint32(suppressed)} {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	for _, m := range requestedMacros() {
		out = binary.BigEndian.AppendUint32(out, uint32(m.stage))
		out = append(append(out, strings.Join(m.names, " ")...), 0)
	}
	return out
}

// protocolVersion is the version of the library. Later replies and commands are not used.
const protocolVersion = 2

// mailbox returns the address in MAIL or RCPT, without the ESMTP arguments after it.
func mailbox(data []byte) string { return strings.Trim(cString(data), "<>") }

// cString returns the text before the first NUL.
func cString(data []byte) string {
	text, _, _ := bytes.Cut(data, []byte{0})
	return string(text)
}
