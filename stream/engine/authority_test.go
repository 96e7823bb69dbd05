package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeyOfAuthorityIsLost checks that an engine whose ca.key is gone never replaces the authority that the
// enrolled hosts trust.
func TestKeyOfAuthorityIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		lost   []string      // files that are gone
		after  time.Duration // since the first start
		want   string        // error of the next start
		renews bool          // there is a new authority
	}{
		{name: "the server certificate is valid", lost: []string{"ca.key"}},
		{name: "the server certificate expires soon", lost: []string{"ca.key"}, after: serverValid - time.Hour},
		{name: "the server certificate has expired", lost: []string{"ca.key"}, after: serverValid,
			want: "restore ca.key"},
		{name: "no server certificate", lost: []string{"ca.key", "server.crt"}, want: "restore ca.key"},
		{name: "the first start was interrupted", lost: []string{"ca.key", "server.crt", "server.key", membersFile},
			renews: true},
		{name: "both are gone", lost: []string{"ca.key", "ca.crt"}, renews: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			config := testConfig(t, t.TempDir())
			config.Now = func() time.Time { return now }
			first, err := openAuthority(config)
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(config.Dir, membersFile), "[]")
			key := content(t, filepath.Join(config.Dir, "ca.key"))
			for i, name := range c.lost {
				if err := os.Remove(filepath.Join(config.Dir, name)); err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					continue
				}
				if first.renew(config.Log); !first.isKeyMissing() {
					t.Error("the running engine does not notice it")
				}
			}
			now = now.Add(c.after)
			next, err := openAuthority(config)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("open: %v, want %q", err, c.want)
				}
				if !bytes.Equal(content(t, filepath.Join(config.Dir, "ca.crt")), first.pem()) {
					t.Error("ca.crt was overwritten")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if same := bytes.Equal(next.pem(), first.pem()); same == c.renews {
				t.Errorf("the same authority: %t", same)
			}
			if next.isKeyMissing() == c.renews {
				t.Errorf("key missing: %t", next.isKeyMissing())
			}
			if c.renews {
				return
			}
			put(t, filepath.Join(config.Dir, "ca.key"), string(key))
			if next.renew(config.Log); next.isKeyMissing() {
				t.Error("the key that was restored is not used")
			}
			if left := next.expires().Sub(now); left < renewBefore {
				t.Errorf("the server certificate was not renewed with the restored key: %v left", left)
			}
		})
	}
}

// TestConfiguredAuthorityChanges checks that new enrolment files have the new content of nats.tls.ca_file, also if
// the certificate stays.
func TestConfiguredAuthorityChanges(t *testing.T) {
	var own, other, config Config
	for _, c := range []*Config{&own, &other, &config} {
		*c = testConfig(t, t.TempDir())
		if c.Now = time.Now; c == &config {
			continue
		}
		if _, err := openAuthority(*c); err != nil {
			t.Fatal(err)
		}
	}
	config.CertFile, config.KeyFile = filepath.Join(own.Dir, "server.crt"), filepath.Join(own.Dir, "server.key")
	config.CAFile = filepath.Join(own.Dir, "ca.crt")
	a, err := openAuthority(config)
	if err != nil {
		t.Fatal(err)
	}
	both := string(a.pem()) + string(content(t, filepath.Join(other.Dir, "ca.crt")))
	put(t, config.CAFile, both)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(config.CAFile, later, later); err != nil {
		t.Fatal(err)
	}
	if a.renew(config.Log); string(a.pem()) != both {
		t.Error("the engine has the old authorities")
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestAuthorityOfNodesIsReplaced replaces the authority of a running node. It must accept a node whose certificate the
// new authority issued, and no longer one of the former authority. It keeps its streams and its members.
func TestAuthorityOfNodesIsReplaced(t *testing.T) {
	routes := []string{"tls://" + freePort(t), "tls://" + freePort(t)}
	issue := func(name string) (files, roots string) { // with an authority of its own
		t.Helper()
		c := testConfig(t, t.TempDir())
		c.Now = time.Now
		a, err := openAuthority(c)
		if err != nil {
			t.Fatal(err)
		}
		cert, key, err := a.issue(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(cert) + string(key), string(a.pem())
	}
	node := func(i int) Config {
		c := testConfig(t, t.TempDir())
		c.Cluster = &Cluster{Node: "n" + string(rune('1'+i)), Routes: routes,
			Listen: strings.TrimPrefix(routes[i], "tls://")}
		c.CertFile = filepath.Join(t.TempDir(), "node")
		c.KeyFile, c.CAFile = c.CertFile, filepath.Join(t.TempDir(), "ca")
		return c
	}
	one, two := node(0), node(1)
	oneFiles, oneRoots := issue("n1")
	twoFiles, twoRoots := issue("n2")
	put(t, one.CertFile, oneFiles)
	put(t, one.CAFile, oneRoots)
	put(t, two.CertFile, twoFiles)
	put(t, two.CAFile, oneRoots+twoRoots)
	first := start(t, one)
	second := start(t, two)
	if peers := first.Status().Peers; peers != 0 {
		t.Fatalf("%d peers of an unknown authority", peers)
	}
	put(t, one.CAFile, oneRoots+twoRoots)
	waitFor(t, "the nodes are connected", func() bool {
		return first.Status().Peers == 1 && second.Status().Peers == 1
	})
	enrol(t, first, "hub", Hub, "corp")
	waitFor(t, "the other node has the hub", func() bool { return len(second.Members()) == 1 })
	_, js := daemonJS(t, second)
	waitFor(t, "the streams exist", func() bool { _, ok := settings(t, js, "RCPT_corp"); return ok })

	put(t, one.CAFile, oneRoots)
	waitFor(t, "the change is read", func() bool { return string(first.authority.pem()) == oneRoots })
	first.authority.renew(one.Log)
	first.reloadRoots()
	second.Shutdown()
	waitFor(t, "the other node is gone", func() bool { return first.Status().Peers == 0 })
	second = start(t, two)
	waitFor(t, "the other node was rejected", func() bool { return strings.Contains(second.Status().LastError, "TLS") })
	if peers := first.Status().Peers; peers != 0 {
		t.Errorf("%d peers of an authority that was removed", peers)
	}
	if len(first.Members()) != 1 {
		t.Errorf("members %+v", first.Members())
	}
}
