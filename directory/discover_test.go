package directory

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone answers SRV queries over UDP like a name server, so the test includes the resolver of
// the standard library. A missing name does not exist; a name with nil records gets "server
// failure".
type zone map[string][]dnsmessage.SRVResource

// resolver returns a resolver that asks only the zone.
func (z zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn := must[net.PacketConn](t)(net.ListenPacket("udp", "127.0.0.1:0"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		z.serve(conn)
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, StrictErrors: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
		}}
}

func (z zone) serve(conn net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		if answer, err := z.answer(m); err == nil {
			conn.WriteTo(answer, from)
		}
	}
}

func (z zone) answer(m dnsmessage.Message) ([]byte, error) {
	question := m.Questions[0]
	records, there := z[strings.ToLower(question.Name.String())]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil
	switch {
	case !there:
		m.RCode = dnsmessage.RCodeNameError
	case records == nil:
		m.RCode = dnsmessage.RCodeServerFailure
	}
	for _, r := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeSRV,
				Class: dnsmessage.ClassINET, TTL: 600},
			Body: &r,
		})
	}
	return m.Pack()
}

func srv(target string, priority, weight uint16) dnsmessage.SRVResource {
	return dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: 389, Target: dnsmessage.MustNewName(target)}
}

const (
	ofDomain = "_ldap._tcp.dc._msdcs.corp.example."
	ofSite   = "_ldap._tcp.edge._sites.dc._msdcs.corp.example."
)

func TestDiscover(t *testing.T) {
	everywhere := []dnsmessage.SRVResource{srv("dc3.corp.example.", 10, 100), srv("DC1.corp.example.", 0, 100),
		srv("dc2.corp.example.", 5, 100)}
	for _, tc := range []struct {
		name   string
		zone   zone
		domain string
		site   string
		want   string // hosts, without ldaps:// and port
		kind   error
		words  string
	}{
		{"by priority", zone{ofDomain: everywhere}, "corp.example", "", "dc1 dc2 dc3", nil, ""},
		{"in another spelling", zone{ofDomain: everywhere}, "CORP.Example.", "", "dc1 dc2 dc3", nil, ""},
		{"site first, each once", zone{ofDomain: everywhere, ofSite: {srv("dc3.corp.example.", 0, 100)}},
			"corp.example", "Edge", "dc3 dc1 dc2", nil, ""},
		{"a site that is not there", zone{ofDomain: everywhere}, "corp.example", "Edge", "dc1 dc2 dc3", nil, ""},
		{"no service in the site", zone{ofDomain: everywhere, ofSite: {srv(".", 0, 0)}}, "corp.example", "Edge",
			"dc1 dc2 dc3", nil, ""},
		{"one of them is elsewhere", zone{ofDomain: {srv("evil.example.", 0, 0), srv("dc1.corp.example.", 1, 0),
			srv("notcorp.example.", 2, 0)}}, "corp.example", "", "dc1", nil, ""},
		{"a controller of a child domain", zone{ofDomain: {srv("dc1.sub.corp.example.", 0, 0)}}, "corp.example", "",
			"dc1.sub", nil, ""},
		{"all of them are elsewhere", zone{ofDomain: {srv("dc1.evil.example.", 0, 0)}}, "corp.example", "", "",
			ErrConfig, "dc1.evil.example"},
		{"no such domain", zone{}, "corp.example", "", "", ErrConfig, "correct discover"},
		{"the server fails", zone{ofDomain: nil}, "corp.example", "", "", ErrUnreachable,
			"cannot look up the controllers"},
		{"it fails for the site", zone{ofDomain: everywhere, ofSite: nil}, "corp.example", "Edge", "dc1 dc2 dc3",
			ErrUnreachable, "cannot look up the controllers"},
		{"it fails for the domain", zone{ofDomain: nil, ofSite: everywhere[:1]}, "corp.example", "Edge", "dc3",
			ErrUnreachable, "cannot look up the controllers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Discover(t.Context(), tc.zone.resolver(t), tc.domain, tc.site)
			var want []string
			for _, host := range strings.Fields(tc.want) {
				want = append(want, "ldaps://"+host+".corp.example:636")
			}
			if !slices.Equal(got, want) {
				t.Errorf("Discover = %q, want %q", got, want)
			}
			if tc.kind == nil && err != nil {
				t.Errorf("error %v", err)
			} else if tc.kind != nil {
				wantError(t, "Discover", err, tc.kind, tc.words)
			}
			for _, url := range got {
				if _, err := parseURL(url); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Among equals of one priority the weight decides how often each comes first.
func TestDiscoverByWeight(t *testing.T) {
	r := zone{ofDomain: {srv("heavy.corp.example.", 0, 300), srv("light.corp.example.", 0, 100),
		srv("last.corp.example.", 1, 1000)}}.resolver(t)
	first := map[string]int{}
	for range 200 {
		urls := must[[]string](t)(Discover(t.Context(), r, "corp.example", ""))
		if len(urls) != 3 || urls[2] != "ldaps://last.corp.example:636" {
			t.Fatalf("Discover = %q", urls)
		}
		first[urls[0]]++
	}
	// 150 to 50 are expected; chance goes further from it than this once in a million runs.
	if heavy := first["ldaps://heavy.corp.example:636"]; heavy < 118 || heavy > 182 || len(first) != 2 {
		t.Errorf("first came %v, want about 3 to 1", first)
	}
}

func TestDiscoverEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if urls, err := Discover(ctx, zone{ofDomain: {srv("dc1.corp.example.", 0, 0)}}.resolver(t), "corp.example",
		""); err == nil {
		t.Errorf("after its context ended: %q", urls)
	}
	if _, err := Discover(ctx, nil, "corp.example", ""); err == nil {
		t.Error("the system's resolver, after the context ended: no error")
	}
}
