package testenv

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWildcard(t *testing.T) {
	tests := []struct {
		pattern, reply string
		want           bool
	}{
		{"250 2.1.5 Ok", "250 2.1.5 Ok", true},
		{"250 2.1.5 Ok", "250 2.1.5 Okay", false},
		{"250...", "250 2.1.5 Ok", true},
		{"250...", "250-mx\n250-SIZE\n250 SMTPUTF8", true},
		{"250-mx...\n250-SIZE...", "250-mx.edge.example\n250-SIZE 1\n250 DSN", true},
		{"...SMTPUTF8...", "250-mx\n250-SMTPUTF8\n250 DSN", true},
		{"550 5.1.1 <a.b@x>: ...", "550 5.1.1 <aXb@x>: User unknown", false}, // a dot matches only a dot
		{"550 5.1.1 <a+b@x>...", "550 5.1.1 <a+b@x>: User unknown", true},
		{"250...", "550 5.1.1 no", false},
		{"250 Ok", "250 Ok\n250 more", false},
	}
	for _, test := range tests {
		t.Run(test.pattern, func(t *testing.T) {
			if got := compileWildcard(test.pattern).MatchString(test.reply); got != test.want {
				t.Errorf("wildcard(%q) matches %q = %v, want %v", test.pattern, test.reply, got, test.want)
			}
		})
	}
}

func TestParseDialogue(t *testing.T) {
	text := "# comment\n\nS: 220 ${host}...\nC: RCPT TO:<${user}@x.example>\nS: 250-a\nS: 250 b\nC: \nS~ ^2..\nS! " +
		"closed\n=> ${user}@x.example\n"
	d, err := ParseDialogue("t", text, map[string]string{"host": "mx", "user": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.steps {
		got = append(got, s.text)
	}
	want := []string{"220 mx...", "RCPT TO:<alice@x.example>", "250-a\n250 b", "", "^2..", "closed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"alice@x.example"}, d.Delivered); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

func TestParseDialogueErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"# nothing\n", "dialogue is empty"},
		{"C: x\nQ: y\n", "t:2: line starts with \"Q:\""},
		{"C: ${who}\n", "t:1: variable ${who} has no value"},
		{"S~ (\n", "t:1: error parsing regexp"},
		{"S! open\n", "\"closed\" after the S! marker"},
		{"x\n", "line starts with \"x\""},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%q", test.text), func(t *testing.T) {
			_, err := ParseDialogue("t", test.text, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("ParseDialogue(%q) = %v, want an error with %q", test.text, err, test.want)
			}
		})
	}
}

// serve answers one connection: first the greeting, then for each line the next of the
// replies. Then it closes.
func serve(t *testing.T, greeting string, replies ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write([]byte(greeting + "\r\n"))
		read := bufio.NewReader(conn)
		for _, reply := range replies {
			if _, err := read.ReadString('\n'); err != nil {
				return
			}
			conn.Write([]byte(reply + "\r\n"))
		}
	}()
	return listener.Addr().String()
}

func TestDialogueRun(t *testing.T) {
	address := serve(t, "220 mx ready", "250-mx\r\n250 DSN", "550 5.1.1 <x@y>: User unknown")
	d, err := ParseDialogue("t", "S: 220 mx...\nC: EHLO c\nS: 250...DSN\nC: RCPT TO:<x@y>\nS: 550 5.1.1 "+
		"<x@y>...\nS! closed\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	transcript, err := d.Run(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	want := "S: 220 mx ready\nC: EHLO c\nS: 250-mx\nS: 250 DSN\nC: RCPT TO:<x@y>\nS: 550 5.1.1 <x@y>: User unknown\n"
	if transcript != want {
		t.Errorf("transcript = %q, want %q", transcript, want)
	}
}

func TestDialogueRunFails(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"unexpected reply", "S: 220...\nC: RCPT\nS: 250...\n", []string{"t:3: unexpected reply", "expected: " +
			"250...", "got:      550 no", "C: RCPT"}},
		{"closed", "S: 220...\nC: RCPT\nS: 550...\nC: QUIT\nS: 221...\n",
			[]string{"t:5: no reply", "expected: 221..."}},
		{"still open", "S! closed\n", []string{"t:1: the connection is still open", "220 mx"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := serve(t, "220 mx", "550 no")
			d, err := ParseDialogue("t", test.text, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Run(t.Context(), address)
			if err == nil {
				t.Fatal("Run succeeded, want an error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Run() = %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestReplyCode(t *testing.T) {
	tests := []struct {
		lines []string
		want  int
	}{
		{nil, 0}, {[]string{""}, 0}, {[]string{"25"}, 0}, {[]string{"abc x"}, 0},
		{[]string{"250 Ok"}, 250}, {[]string{"250-a", "250 b"}, 250}, {[]string{"421"}, 421},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.lines), func(t *testing.T) {
			if got := (Reply{Lines: test.lines}).Code(); got != test.want {
				t.Errorf("Code(%q) = %d, want %d", test.lines, got, test.want)
			}
		})
	}
}
