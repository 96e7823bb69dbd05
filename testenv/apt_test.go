package testenv

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPickMirror(t *testing.T) {
	lists := map[string]string{
		"/etc/apt/mirrors/debian.list": "https://near.example/debian\tpriority:1\nhttps://far.example/debian\n"}
	read := func(name string) ([]byte, error) {
		if text, ok := lists[name]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such file")
	}
	tests := []struct{ name, targets, want string }{
		{"plain", "trixie main http://a.example/debian/\n", "http://a.example/debian/"},
		{"not security nor another component", "trixie-security main http://s.example/\ntrixie contrib " +
			"http://c.example/\ntrixie main http://a.example/debian/\n", "http://a.example/debian/"},
		{"the base's own release", "bookworm main http://b.example/\n", "http://b.example/"},
		{"mirror list", "trixie main mirror+file:/etc/apt/mirrors/debian.list/\n", "https://near.example/debian"},
		{"mirror list that is not there", "trixie main mirror+file:/nowhere\n", ""},
		{"none", "nodistro main https://other.example/\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := pickMirror(test.targets, "trixie", read)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("%s: pickMirror(%q) = %q, %v, want %q", test.name, test.targets, got, err, test.want)
			}
		})
	}
}

func TestReachSettings(t *testing.T) {
	dump := `APT::Architecture "amd64";
Acquire::http "";
Acquire::http::Proxy "http://10.0.0.1:3128";
Acquire::http::Proxy::internal.example "DIRECT";
Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";
Acquire::https::CaInfo "/etc/ca.pem";
Acquire::Check-Date "false";
Acquire::Retries "3";
Acquire::Languages "none";
`
	want := []string{
		`Acquire::http::Proxy "http://10.0.0.1:3128";`,
		`Acquire::http::Proxy::internal.example "DIRECT";`,
		`Acquire::Check-Date "false";`,
		`Acquire::Retries "3";`,
	}
	got := reachSettings(dump)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reachSettings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"http_proxy=http://10.0.0.1:3128"}, aptProxies(got)); diff != "" {
		t.Errorf("aptProxies (-want +got):\n%s", diff)
	}
}

func TestBuildArgs(t *testing.T) {
	tests := []struct {
		name              string
		settings, environ []string
		want              []string
	}{
		{"nothing", nil, []string{"PATH=/bin"}, []string{"--build-arg", "APT_CONF="}},
		{"proxy elsewhere", nil, []string{"HTTP_PROXY=http://10.0.0.1:1", "no_proxy=localhost"},
			[]string{"--build-arg", "APT_CONF=", "--build-arg", "HTTP_PROXY=http://10.0.0.1:1", "--build-arg",
				"no_proxy=localhost"}},
		{"proxy on this machine", []string{`Acquire::http::Proxy "http://localhost:3142";`}, nil,
			[]string{"--build-arg", `APT_CONF=Acquire::http::Proxy "http://localhost:3142";`, "--network", "host"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, buildArgs(test.settings, test.environ)); diff != "" {
				t.Errorf("%s: buildArgs (-want +got):\n%s", test.name, diff)
			}
		})
	}
}

func TestOSRelease(t *testing.T) {
	id, codename := osRelease("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=\"bookworm\"\n")
	if id != "debian" || codename != "bookworm" {
		t.Errorf("osRelease = %q, %q, want debian, bookworm", id, codename)
	}
}
