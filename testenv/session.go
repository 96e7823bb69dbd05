package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// replyDeadline limits one SMTP reply. Postfix waits up to 10 s for the milter.
const replyDeadline = 30 * time.Second

// maxReply limits the bytes of one reply; RFC 5321 section 4.5.3.1.5 allows 512 a line.
const maxReply = 64 << 10

// Reply is one SMTP reply with its lines as received.
type Reply struct{ Lines []string }

// Code returns the reply code; 0 if there is none.
func (r Reply) Code() int {
	if len(r.Lines) == 0 || len(r.Lines[0]) < 3 {
		return 0
	}
	code, err := strconv.Atoi(r.Lines[0][:3])
	if err != nil {
		return 0
	}
	return code
}

// String returns the reply's lines without the last line end.
func (r Reply) String() string { return strings.Join(r.Lines, "\n") }

// Session is the client side of one SMTP connection. It sends any line, valid or not, and reads
// replies.
type Session struct {
	conn net.Conn
	read *bufio.Reader
	stop func() bool
}

// DialSMTP connects and does not read the greeting. The end of the context breaks the connection.
func DialSMTP(ctx context.Context, address string) (*Session, error) {
	conn, err := (&net.Dialer{Timeout: replyDeadline}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return &Session{conn: conn, read: bufio.NewReaderSize(conn, maxReply), stop: stop}, nil
}

// Close breaks the connection without QUIT.
func (s *Session) Close() error {
	s.stop()
	return s.conn.Close()
}

// Send writes one line and adds the line end.
func (s *Session) Send(line string) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(replyDeadline)); err != nil {
		return err
	}
	_, err := io.WriteString(s.conn, line+"\r\n")
	return err
}

// Reply reads one reply (RFC 5321 section 4.2). At the end of the connection the error is io.EOF.
func (s *Session) Reply() (Reply, error) {
	var reply Reply
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(replyDeadline)); err != nil {
			return reply, err
		}
		line, err := s.read.ReadSlice('\n')
		if err != nil {
			if err == io.EOF && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return reply, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		reply.Lines = append(reply.Lines, text)
		if len(text) < 4 || text[3] != '-' {
			return reply, nil
		}
		if len(reply.Lines) > 100 {
			return reply, errors.New("smtp: reply has more than 100 lines")
		}
	}
}

// Do sends a line and reads its reply.
func (s *Session) Do(line string) (Reply, error) {
	if err := s.Send(line); err != nil {
		return Reply{}, err
	}
	return s.Reply()
}

// Open reads the greeting and sends EHLO, optionally as a client at another address (XCLIENT,
// which Postfix accepts from the harness's network). Every answer must be positive.
func (s *Session) Open(client string) error {
	greeting, err := s.Reply()
	if err != nil || greeting.Code() != 220 {
		return fmt.Errorf("smtp greeting %q: %w", greeting, errors.Join(err, errRefused))
	}
	lines := []string{"EHLO client.example"}
	if client != "" {
		lines = append(lines, "XCLIENT ADDR="+client+" NAME=client.example", "EHLO client.example")
	}
	for _, line := range lines {
		reply, err := s.Do(line)
		if err != nil || reply.Code()/100 != 2 {
			return fmt.Errorf("smtp %s: %q: %w", line, reply, errors.Join(err, errRefused))
		}
	}
	return nil
}

var errRefused = errors.New("unexpected reply")

// Ask sends MAIL, RCPT and RSET and returns the reply to one recipient, or to MAIL if that was
// rejected.
func (s *Session) Ask(recipient string) (Reply, error) {
	mail := "MAIL FROM:<sender@elsewhere.example>"
	for _, c := range recipient {
		if c > 127 {
			mail += " SMTPUTF8"
			break
		}
	}
	reply, err := s.Do(mail)
	if err != nil || reply.Code()/100 != 2 {
		return reply, err
	}
	answer, err := s.Do("RCPT TO:<" + recipient + ">")
	if err != nil {
		return answer, err
	}
	if answer.Code() == 421 {
		return answer, nil
	}
	_, err = s.Do("RSET")
	return answer, err
}
