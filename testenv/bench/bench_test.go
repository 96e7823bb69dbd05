package main

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name, args string
		want       options
		fails      bool
	}{
		{"usual", "", options{addresses: 1_000_000, rounds: 5, length: 3 * time.Second, samba: true}, false},
		{"short", "-short", options{addresses: 20_000, rounds: 3, length: time.Second}, false},
		{"short with more rounds", "-short -rounds 7",
			options{addresses: 20_000, rounds: 7, length: time.Second}, false},
		{"short with Samba", "-short -samba",
			options{addresses: 20_000, rounds: 3, length: time.Second, samba: true}, false},
		{"load", "-load 30m -addresses 2000000", options{addresses: 2_000_000, rounds: 5, length: 3 * time.Second,
			load: 30 * time.Minute}, false},
		{"too many sessions", "-load 1m -sessions 251", options{}, true},
		{"no pause", "-load 1m -pause 0s", options{}, true},
		{"an argument", "now", options{}, true},
		{"too few addresses", "-addresses 10", options{}, true},
		{"no rounds", "-rounds 0", options{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.sessions, c.want.pause = 200, 200*time.Millisecond
			got, err := parseOptions(strings.Fields(c.args))
			if (err != nil) != c.fails || !c.fails && got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestReadMetrics(t *testing.T) {
	got, err := readMetrics(strings.NewReader("# HELP a b\n# TYPE a gauge\na 7\nb{c=\"d e\"} 1.5e+03\n"))
	if err != nil || got["a"] != 7 || got[`b{c="d e"}`] != 1500 || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readMetrics(strings.NewReader("a b\n")); err == nil {
		t.Error("no error for a value that is no number")
	}
}

// TestRecipient: a load asks alternately for addresses of the table and for others.
func TestRecipient(t *testing.T) {
	const addresses = 1000
	all := map[string]bool{}
	for i := range addresses {
		all[address(i)] = true
	}
	seen := map[string]bool{}
	for i := range 10_000 {
		text, known := recipient(i, addresses)
		if known != all[text] || known != (i%2 == 0) || !known && text[0] != 'x' {
			t.Fatalf("recipient %d is %s, known %t", i, text, known)
		}
		seen[text] = true
	}
	if len(seen) < addresses/2 {
		t.Errorf("only %d different recipients", len(seen))
	}
}

func TestRatio(t *testing.T) {
	r := &result{}
	r.add(value{"q", "base", []float64{10, 20, 40}, "base"})
	r.add(value{"q", "half", []float64{5, 10, 100}, "base"})
	r.add(value{"q", "other rounds", []float64{5}, "base"})
	r.add(value{"q", "no base", []float64{5}, ""})
	r.add(value{"p", "other quantity", []float64{5, 5, 5}, "base"})
	for _, c := range []struct {
		quantity, candidate string
		want                float64
	}{{"q", "base", 1}, {"q", "half", 0.5}, {"q", "other rounds", 0}, {"q", "no base", 0}, {"p", "other quantity", 0}} {
		v, _ := r.find(c.quantity, c.candidate)
		if got, found := r.ratio(v); got != c.want || found != (c.want != 0) {
			t.Errorf("ratio of %q is %v, %t, want %v", c.candidate, got, found, c.want)
		}
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v, want 2.5", got)
	}
	if got := median(nil); got != 0 {
		t.Errorf("median of nothing %v", got)
	}
}

// TestCompare: a result is written, and compared with a later one.
func TestCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.json")
	old := &result{Values: []value{{"q", "base", []float64{10}, "base"}, {"q", "x", []float64{5}, "base"}}}
	if err := old.write(path); err != nil {
		t.Fatal(err)
	}
	now := &result{Values: []value{{"q", "base", []float64{100}, "base"}, {"q", "x", []float64{75}, "base"},
		{"p", "new", []float64{0.25}, ""}}}
	var out strings.Builder
	if err := now.print(&out, path); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.75", "0.50", "0.2500"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := now.print(&out, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestMilterClient: packets as smtpd sends them, and an answer of more than its command.
func TestMilterClient(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	got := make(chan string, 1)
	go func() {
		defer server.Close()
		buf := make([]byte, 1024)
		n, _ := server.Read(buf)
		got <- string(buf[:n])
		server.Write([]byte("\x00\x00\x00\x05y550\x00"))
	}()
	c := &milterClient{conn: client, read: bufio.NewReader(client)}
	refused, err := c.rcpt("x@d")
	if err != nil || !refused {
		t.Errorf("refused %t, %v", refused, err)
	}
	if text := <-got; !strings.HasSuffix(text, "\x00\x00\x00\x07R<x@d>\x00") {
		t.Errorf("sent %q", text)
	}
}
