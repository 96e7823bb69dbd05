package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv/adsim"
)

const base = "DC=corp,DC=example"

// must gives the value of a call that is not meant to fail here.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// configFor fits a server of the simulated directory.
func configFor(t *testing.T, s *adsim.Server) Config {
	t.Helper()
	return Config{
		URL: s.URL(), BindDN: s.BindDN(),
		Password: func() ([]byte, error) { return []byte(s.Password()), nil },
		CAFile:   must[string](t)(s.WriteCA(t.TempDir())),
	}
}

// connect serves a directory and connects to it; change may alter the configuration.
func connect(t *testing.T, d *adsim.Directory, sc adsim.ServerConfig, change func(*Config)) (*Conn, *adsim.Server) {
	t.Helper()
	s := adsim.StartTest(t, d, sc)
	config := configFor(t, s)
	if change != nil {
		change(&config)
	}
	c := must[*Conn](t)(Dial(t.Context(), config))
	t.Cleanup(func() { c.Close() })
	return c, s
}

func add(t *testing.T, d *adsim.Directory, kind adsim.Kind, dn string, addresses ...string) adsim.GUID {
	t.Helper()
	attrs := adsim.Attrs{}
	for _, a := range addresses {
		attrs["proxyAddresses"] = append(attrs["proxyAddresses"], "smtp:"+a)
	}
	return must[adsim.GUID](t)(d.Add(kind, dn, attrs))
}

// people adds n users with one address each.
func people(t *testing.T, d *adsim.Directory, n int) []adsim.GUID {
	t.Helper()
	var guids []adsim.GUID
	for i := range n {
		guids = append(guids, add(t, d, adsim.User, fmt.Sprintf("CN=u%d,CN=Users,%s", i, base),
			fmt.Sprintf("u%d@corp.example", i)))
	}
	return guids
}

// readAll collects a read, the last report of each object counting.
func readAll(ctx context.Context, c *Conn, since uint64) (map[GUID]Object, error) {
	all := map[GUID]Object{}
	err := c.Read(ctx, since, func(objects []Object) error {
		for _, o := range objects {
			all[o.GUID] = o
		}
		return nil
	})
	return all, err
}

// owners lists the addresses of live objects as "address guid", to compare with the
// truth of the simulated directory.
func owners(objects map[GUID]Object) []string {
	var out []string
	for _, o := range objects {
		for _, v := range o.Values {
			if address, found := strings.CutPrefix(strings.ToLower(v.Raw), "smtp:"); found && !o.Deleted {
				out = append(out, address+" "+o.GUID.String())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func truth(d *adsim.Directory) []string {
	var out []string
	for address, guids := range d.Owners() {
		for _, g := range guids {
			out = append(out, address+" "+g.String())
		}
	}
	slices.Sort(out)
	return out
}

// names lists the first components of the objects' names, sorted.
func names(objects map[GUID]Object) string {
	var out []string
	for o := range maps.Values(objects) {
		rdn, _, _ := strings.Cut(o.DN, ",")
		rdn, _, _ = strings.Cut(rdn, `\`)
		out = append(out, rdn[3:])
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// wantError checks kind and words of an error.
func wantError(t *testing.T, what string, err, kind error, words string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: error = %v, want one of kind %q that says %q", what, err, kind, words)
	}
}
