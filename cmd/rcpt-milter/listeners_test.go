package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rcpt-milter/control"
)

// flood holds connections to a listener open, and opens new ones for those that are closed.
type flood struct {
	network, address string

	mu    sync.Mutex
	conns []net.Conn
}

// more opens connections and sends what is not a whole request.
func (f *flood) more(t *testing.T, connections int, text string) {
	t.Helper()
	for range connections {
		c, err := net.DialTimeout(f.network, f.address, patience)
		if err != nil {
			t.Logf("the flood ends at %d connections: %v", len(f.conns), err)
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.mu.Unlock()
		io.WriteString(c, text) // the daemon may have closed it
	}
}

func (f *flood) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

// atOnce is far above the time of an answer, and below any timeout of the daemon for its clients:
// who waits for a file descriptor waits longer.
const atOnce = 4 * time.Second

// answersAtOnce begins a session and asks about a known recipient.
func answersAtOnce(t *testing.T, r *rig) {
	t.Helper()
	begun := time.Now()
	p, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Errorf("a new session: %v", err)
		return
	}
	defer p.Close()
	p.want(t, "jane@corp.example", "continue")
	took := time.Since(begun)
	t.Logf("a new session and its answer took %v", took)
	if took > atOnce {
		t.Errorf("a known recipient was answered after %v, want %v at most", took, atOnce)
	}
}

// getFrom requests a path of a listener of the daemon under a host name.
func getFrom(ctx context.Context, network, address, host, path string, header http.Header) (int, string, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// listenerOf returns the state of the first listener of a name.
func listenerOf(s control.Status, name string) control.ListenerStatus {
	for _, l := range s.Listeners {
		if l.Name == name {
			return l
		}
	}
	return control.ListenerStatus{}
}

// TestFloodOfListeners: whatever local users open, Postfix is answered at once, and the daemon can
// still be watched.
func TestFloodOfListeners(t *testing.T) {
	const descriptors, connections = 512, 1500
	r := newRig(t)
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	d := r.spawnLimited(descriptors).ready()
	r.want(exitOK, "sync", "--wait")
	for _, target := range []struct{ name, network, address string }{
		{control.ListenerMetrics, "tcp", address},
		{control.ListenerPage, "unix", filepath.Join(r.dir, "run/page.sock")},
		{control.ListenerControl, "unix", filepath.Join(r.dir, "run/control.sock")},
	} {
		for _, text := range []string{"", "GET /metr"} {
			t.Run(target.name+" "+text, func(t *testing.T) {
				f := &flood{network: target.network, address: target.address}
				defer f.end()
				f.more(t, connections, text)
				answersAtOnce(t, r)
				s := r.status()
				l := listenerOf(s, target.name)
				if l.AtLimit == 0 || l.Limit == 0 || l.Connections > l.Limit || l.Limit > descriptors/8 {
					t.Errorf("status has %+v", l)
				}
				if m := listenerOf(s, control.ListenerMilter); m.AcceptErrors > 0 {
					t.Errorf("status has %+v", m)
				}
				if open := s.Descriptors.Open; open <= 0 || open > descriptors/2 || s.Descriptors.Limit != descriptors {
					t.Errorf("descriptors: %+v", s.Descriptors)
				}
				_, body, err := getFrom(t.Context(), "tcp", address, address, "/metrics", nil)
				count := fmt.Sprintf("\nrcpt_milter_connections_at_limit_total{listener=%q} ", target.name)
				if _, value, found := strings.Cut(body, count); err != nil || !found || value[0] == '0' {
					t.Errorf("the scrape has no %q: %v\n%s", count, err, body)
				}
			})
		}
	}
	d.stop()
}

// TestFloodOfMilter: sessions leave enough file descriptors for commands and monitoring, and the
// limit is shown.
func TestFloodOfMilter(t *testing.T) {
	const descriptors = 512
	r := newRig(t)
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	d := r.spawnLimited(descriptors).ready()
	r.want(exitOK, "sync", "--wait")
	f := &flood{network: "unix", address: r.milterSocket()}
	defer f.end()
	f.more(t, descriptors+100, "\x00")
	s := r.waitFor("the sessions are at their limit", func(s control.Status) bool {
		l := listenerOf(s, control.ListenerMilter)
		return l.AtLimit > 0 && l.Connections == l.Limit
	})
	l := listenerOf(s, control.ListenerMilter)
	if l.Limit < descriptors/3 || l.AcceptErrors > 0 {
		t.Errorf("of %d descriptors the milter has %+v", descriptors, l)
	}
	if !strings.Contains(d.log.String(), "not enough file descriptors for limits.connections") {
		t.Errorf("the log does not say that the limit is too high:\n%s", d.log)
	}
	if code, body, err := getFrom(t.Context(), "tcp", address, address, "/metrics", nil); code != http.StatusOK ||
		!strings.Contains(body, fmt.Sprintf("rcpt_milter_connections{listener=\"milter\"} %d\n", l.Limit)) {
		t.Errorf("the scrape: %d, %v\n%s", code, err, body)
	}
	if out := r.want(exitOK, "status"); !strings.Contains(out, "at its limit") {
		t.Errorf("status says\n%s", out)
	}
	f.end()
	answersAtOnce(t, r)
	d.stop()
}

// TestSocketFileRemoved: the daemon notices within seconds, makes the socket again, and says so. As
// long as it cannot, it is not ready.
func TestSocketFileRemoved(t *testing.T) {
	r := newRig(t)
	address := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+address)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	sockets := map[string]string{control.ListenerMilter: r.milterSocket(),
		control.ListenerControl: filepath.Join(r.dir, "run/control.sock"),
		control.ListenerPage:    filepath.Join(r.dir, "run/page.sock")}
	removeDir := func(path string) error { return os.RemoveAll(filepath.Dir(path)) }
	for _, remove := range []func(string) error{os.Remove, removeDir} {
		for name, path := range sockets {
			before := listenerOf(r.status(), name).Restored
			if err := remove(path); err != nil {
				t.Fatal(err)
			}
			waitForFile(t, path)
			r.waitFor("the socket of "+name+" is made again", func(s control.Status) bool {
				return listenerOf(s, name).Restored > before && len(s.Closed()) == 0
			})
			answersAtOnce(t, r)
		}
	}
	want := "rcpt_milter_listener_restored_total{listener=\"milter\",socket=\"unix:" + r.milterSocket() + "\"} 2\n"
	if body := r.scrape(address); !strings.Contains(body, want) {
		t.Errorf("the scrape has no %q in\n%s", want, body)
	}
	for name, path := range sockets {
		if name == control.ListenerControl {
			continue // status needs it
		}
		closedByFile(t, r, address, name, path)
	}
	for name := range sockets {
		if line := `msg="socket file was gone; made it again" listener=` + name; strings.Count(d.log.String(),
			line) < 2 {
			t.Errorf("the log has not two of %q:\n%s", line, d.log)
		}
	}
}

// closedByFile puts a file in the place of a socket and takes it away again.
func closedByFile(t *testing.T, r *rig, metrics, name, path string) {
	t.Helper()
	os.Remove(path)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		// The daemon was faster: its socket is back, and is replaced in one step.
		other := filepath.Join(r.dir, "in-the-way")
		if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Rename(other, path)); err != nil {
			t.Fatal(err)
		}
	}
	ready, status := http.StatusOK, exitFailure
	up := fmt.Sprintf("rcpt_milter_listener_up{listener=%q,socket=\"unix:%s\"} ", name, path)
	if name == control.ListenerMilter {
		ready, status = http.StatusServiceUnavailable, exitTemporary
	}
	r.waitFor(name+" is closed", func(s control.Status) bool { return listenerOf(s, name).Trouble != "" })
	if out := r.want(status, "status"); !strings.Contains(out, "is not a socket") {
		t.Errorf("status says\n%s", out)
	}
	if code, body, err := getFrom(t.Context(), "tcp", metrics, metrics, "/readyz", nil); code != ready {
		t.Errorf("%s is closed and /readyz says %d %s, %v", name, code, body, err)
	}
	if body := r.scrape(metrics); !strings.Contains(body, up+"0\n") {
		t.Errorf("the scrape has no %s0 in\n%s", up, body)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file in the way has %q, %v", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.waitFor(name+" is open again", func(s control.Status) bool { return listenerOf(s, name).Trouble == "" })
	r.want(exitOK, "status")
	if code, body, err := getFrom(t.Context(), "tcp", metrics, metrics, "/readyz", nil); code != http.StatusOK {
		t.Errorf("%s is open and /readyz says %d %s, %v", name, code, body, err)
	}
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s is not back", path)
		}
	}
}

// TestMetricsPortTaken: the daemon answers mail, says that the metrics are missing, and serves them
// as soon as the port is free.
func TestMetricsPortTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := newRig(t)
	r.edit(`metrics: ""`, "metrics: inet:"+other.Addr().String())
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	answersAtOnce(t, r)
	if out := r.want(exitFailure, "status"); !strings.Contains(out, "address already in use; choose another address") {
		t.Errorf("status says\n%s", out)
	}
	const warning = "WARNING - the listener of metrics is closed"
	if out := r.want(exitFailure, "status", "--nagios"); !strings.Contains(out, warning) {
		t.Errorf("status --nagios says\n%s", out)
	}
	other.Close()
	r.waitFor("the metrics are served", func(s control.Status) bool { return len(s.Closed()) == 0 })
	r.scrape(other.Addr().String())
	r.want(exitOK, "status")
	if log := d.log.String(); strings.Count(log, "clients cannot connect; trying again") != 1 ||
		!strings.Contains(log, "clients can connect again") {
		t.Errorf("the log is\n%s", log)
	}
}

// TestPageAccess: what the page tells, only members of the group of the daemon and holders of a
// token get, whatever address they use.
func TestPageAccess(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	r := newRig(t)
	metrics, page := freePort(t), freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+metrics)
	d := r.serve()
	r.want(exitOK, "sync", "--wait")
	const lookup = "/lookup?address=jane@corp.example"
	tells := func(body string) bool {
		return strings.Contains(body, "jane@corp.example") || strings.Contains(body, "corp.example")
	}
	for _, path := range []string{"/", lookup, "/style.css", "/v1/status", "/v1/lookup?address=jane@corp.example"} {
		code, body, err := getFrom(t.Context(), "tcp", metrics, metrics, path, nil)
		if code != http.StatusNotFound || tells(body) {
			t.Errorf("the listener of metrics, GET %s: %d %q, %v", path, code, body, err)
		}
	}
	socket := filepath.Join(r.dir, "run/page.sock")
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket of the page: %v, %v", info, err)
	}
	for host, want := range map[string]int{"localhost:9417": 200, "evil.example:9417": http.StatusMisdirectedRequest} {
		code, body, err := getFrom(t.Context(), "unix", socket, host, lookup, nil)
		if code != want || tells(body) != (want == 200) {
			t.Errorf("the page, as %s: %d, %v\n%s", host, code, err, body)
		}
	}
	d.stop()

	tokens := r.write("tokens", "# for the desk\n"+token+"\n")
	r.edit("control: ", "page: {listen: inet:"+page+", tokens: "+tokens+"}\ncontrol: ")
	r.serve()
	basic := func(password string) http.Header {
		request := http.Request{Header: http.Header{}}
		request.SetBasicAuth("anyone", password)
		return request.Header
	}
	for _, c := range []struct {
		what   string
		header http.Header
		host   string
		want   int
	}{
		{"nothing", nil, page, http.StatusUnauthorized},
		{"an empty password", basic(""), page, http.StatusUnauthorized},
		{"a wrong password", basic(token[1:]), page, http.StatusUnauthorized},
		{"a comment as password", basic("# for the desk"), page, http.StatusUnauthorized},
		{"a wrong scheme", http.Header{"Authorization": {"Digest " + token}}, page, http.StatusUnauthorized},
		{"the token as password", basic(token), page, http.StatusOK},
		{"the token", http.Header{"Authorization": {"bearer " + token}}, page, http.StatusOK},
		{"the token under a foreign name", basic(token), "evil.example", http.StatusMisdirectedRequest},
	} {
		for _, path := range []string{"/", lookup} {
			code, body, err := getFrom(t.Context(), "tcp", page, c.host, path, c.header)
			if code != c.want || tells(body) != (c.want == http.StatusOK) {
				t.Errorf("GET %s with %s: %d, %v, want %d\n%s", path, c.what, code, err, c.want, body)
			}
		}
	}
	// The file is read at each request. While it is unusable, every request is rejected.
	r.write("tokens", "short\n")
	code, body, err := getFrom(t.Context(), "tcp", page, page, lookup, basic("short"))
	if code != http.StatusServiceUnavailable || tells(body) {
		t.Errorf("with an unusable file of tokens: %d %q, %v", code, body, err)
	}
}
