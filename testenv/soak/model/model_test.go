package model

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rcpt-milter/testenv"
)

// life applies a number of operations to a new model and returns their texts.
func life(t *testing.T, seed uint64, operations int) (*Model, []string) {
	t.Helper()
	m := New("Life", rand.New(rand.NewPCG(seed, 0)))
	m.run = "test"
	var texts []string
	for range operations {
		name, steps := m.Next()
		texts = append(texts, name)
		for _, step := range steps {
			c := step()
			c.Model()
			texts = append(texts, c.What)
		}
	}
	return m, texts
}

// TestSameSeed: a seed decides the operations.
func TestSameSeed(t *testing.T) {
	_, one := life(t, 1, 500)
	_, again := life(t, 1, 500)
	_, two := life(t, 2, 500)
	if !slices.Equal(one, again) {
		t.Error("two lives with the same seed differ")
	}
	if slices.Equal(one, two) {
		t.Error("lives with two seeds are equal")
	}
}

// TestPool: no operation gives an object an address outside of the pool, and List has no two objects
// with the same DN.
func TestPool(t *testing.T) {
	for seed := range uint64(20) {
		m, _ := life(t, seed, 300)
		pool := m.Pool()
		for a := range Owners(m.List()) {
			if !slices.Contains(pool, a) {
				t.Errorf("seed %d: %s is not in the pool", seed, a)
			}
		}
		list := m.List()
		for i := 1; i < len(list); i++ {
			if list[i].DN == list[i-1].DN {
				t.Errorf("seed %d: two objects are %s", seed, list[i].DN)
			}
		}
	}
}

func TestValid(t *testing.T) {
	m := New("Life", rand.New(rand.NewPCG(1, 1)))
	m.objects = append(m.objects, []*person{
		{name: "in", class: "user", ou: m.In, mail: "in-mail@corp.example",
			proxies: []string{"SMTP:In@corp.example", "sip:in-sip@corp.example"}},
		{name: "second", class: "user", ou: m.Second, proxies: []string{"smtp:second@corp.example"}},
		{name: "unit", class: "user", ou: "w0", proxies: []string{"smtp:unit@corp.example"}}, // w0 is in In
		{name: "disabled", class: "user", ou: m.In, disabled: true, proxies: []string{"smtp:disabled@corp.example"}},
		{name: "dead", class: "user", ou: m.In, dead: true, proxies: []string{"smtp:dead@corp.example"}},
		{name: "out", class: "user", ou: m.Out, proxies: []string{"smtp:out@corp.example"}},
	}...)
	for _, c := range []struct {
		name  string
		rules Rules
		want  string
	}{
		{"In", Rules{Bases: []string{m.In}}, "disabled in in-mail unit"},
		{"Second", Rules{Bases: []string{m.Second}}, "second"},
		{"both", Rules{Bases: []string{m.In, m.Second}}, "disabled in in-mail second unit"},
		{"proxies only", Rules{Bases: []string{m.In}, ProxiesOnly: true}, "disabled in unit"},
		{"without disabled", Rules{Bases: []string{m.In}, OmitDisabled: true}, "in in-mail unit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.Rules = c.rules
			var got []string
			for a := range m.Valid() {
				got = append(got, strings.TrimSuffix(a, "@corp.example"))
			}
			slices.Sort(got)
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("Valid() = %s, want %s", got, c.want)
			}
		})
	}
}

// TestOwners: the owners of an address differ whenever something differs that may decide whether it is
// valid.
func TestOwners(t *testing.T) {
	one := testenv.Object{DN: "CN=a", Mail: "a@corp.example", Proxies: []string{"smtp:A@corp.example"}}
	same := Owners([]testenv.Object{one})["a@corp.example"]
	for name, change := range map[string]func(*testenv.Object){
		"moved":         func(o *testenv.Object) { o.DN = "CN=b" },
		"disabled":      func(o *testenv.Object) { o.Disabled = true },
		"without mail":  func(o *testenv.Object) { o.Mail = "" },
		"without alias": func(o *testenv.Object) { o.Proxies = nil },
	} {
		t.Run(name, func(t *testing.T) {
			other := one
			change(&other)
			if got := Owners([]testenv.Object{other})["a@corp.example"]; got == same {
				t.Errorf("owners = %q, as before", got)
			}
		})
	}
	if got := Owners([]testenv.Object{{DN: "CN=a", Proxies: []string{"X500:/cn=a"}}}); len(got) != 0 {
		t.Errorf("owners without an address = %v", got)
	}
}
