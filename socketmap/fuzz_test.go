package socketmap

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// wireForm matches the length at the start of a netstring.
var wireForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,5}):`)

// wholeRequests returns the complete requests in a stream. It is an independent implementation of the protocol.
func wholeRequests(stream string) (requests []string) {
	for {
		head := wireForm.FindString(stream)
		if head == "" {
			return requests
		}
		length, _ := strconv.Atoi(head[:len(head)-1])
		stream = stream[len(head):]
		if length > maxRequest || len(stream) <= length || stream[length] != ',' {
			return requests
		}
		requests, stream = append(requests, stream[:length]), stream[length+1:]
	}
}

// FuzzStream checks that a client gets one reply per complete request and then the end, whatever it sends. A
// recipient that may exist must never get NOTFOUND.
func FuzzStream(f *testing.F) {
	for _, l := range lookups {
		f.Add(string(appendNetstring(nil, Map+" "+l.key)))
	}
	f.Add("28:recipients ann@enforce.test,29:recipients ann@enforce.test,")
	f.Add("0:,0:,1:x,00:,")
	s := serve(f, "unix", nil)
	f.Fuzz(func(t *testing.T, stream string) {
		if len(stream) > 1<<16 {
			t.Skip()
		}
		c := s.dial(t)
		defer c.Close()
		go func() {
			io.WriteString(c, stream) // fails if the server has ended the connection
			c.Conn.(*net.UnixConn).CloseWrite()
		}()
		for i, request := range wholeRequests(stream) {
			got, err := readNetstring(c.reader)
			if err != nil {
				// The server closed the connection with unread bytes, so the kernel discarded its replies.
				if i > 0 || strings.Contains(err.Error(), "reset") {
					return
				}
				t.Fatalf("reply to %q: %v", request, err)
			}
			kind, _, _ := strings.Cut(got, " ")
			switch key, ours := strings.CutPrefix(request, Map+" "); {
			case !ours && kind != "PERM", ours && kind == "PERM":
				t.Errorf("reply to %q is %q", request, got)
			case ours && kind == "NOTFOUND" && strings.HasSuffix(key, "@report.test"):
				t.Errorf("not found in mode report: %q", key)
			case strings.ContainsAny(got, "\r\n\x00"):
				t.Errorf("reply %q", got)
			}
		}
		if !c.ends() {
			t.Error("more replies than requests")
		}
	})
}

// FuzzNetstring checks that a text written as a netstring is read unchanged.
func FuzzNetstring(f *testing.F) {
	f.Add("")
	f.Add("recipients ann@enforce.test")
	f.Add(strings.Repeat(",", maxRequest))
	f.Fuzz(func(t *testing.T, text string) {
		wire := string(appendNetstring(nil, text))
		got, err := readNetstring(bufio.NewReader(strings.NewReader(wire + "rest")))
		if len(text) > maxRequest {
			if err == nil {
				t.Errorf("%d bytes are read", len(text))
			}
			return
		}
		if got != text || err != nil {
			t.Errorf("%q is read as %q, %v", wire, got, err)
		}
		for cut := range min(len(wire), 100) {
			if _, err := readNetstring(bufio.NewReader(strings.NewReader(wire[:cut]))); err == nil {
				t.Errorf("%q is read as a whole", wire[:cut])
			}
		}
	})
}
