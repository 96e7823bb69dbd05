// Package model simulates a part of the domain of the harness: objects with addresses, below one
// organizational unit, and the operations that change them at random. It implements the rules for
// recipients independently of the program. It is never read from a directory.
//
// testenv/TestRandomSamba and testenv/soak/real compare it with the index.
package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// Rules decide which objects are recipients.
type Rules struct {
	Bases        []string // DNs below the root of the model
	ProxiesOnly  bool
	OmitDisabled bool
	Grace        bool // removed addresses are deferred, not rejected
}

// Model is a part of the domain as its operations changed it.
type Model struct {
	Rules Rules
	// In, Second and Out are the DNs of containers that do not move. Rules.Bases names In, Second or both.
	Root, In, Second, Out string

	rnd     *rand.Rand
	name    string // prefix of the addresses and names, also of the root
	objects []*person
	ous     map[string]*unit // by name
	wander  []string         // names of the units that move
	names   int
	run     string
}

// pool is the number of local parts that move between objects, in each domain.
const pool = 40

// people is the approximate number of objects.
const people = 30

// domains are those of the addresses. The first is more frequent.
var domains = []string{"corp.example", "lab.sub.example"}

// unit is an organizational unit that moves.
type unit struct{ name, parent string }

func (u *unit) dn() string { return "OU=" + u.name + "," + u.parent }

// person is an object that may own addresses. ou is the name of a unit or a DN.
type person struct {
	name, class, ou string
	mail            string
	proxies         []string
	disabled, dead  bool
}

// Change is one change of the model and of the domain. Model must be called before Domain.
type Change struct {
	What   string
	Model  func()
	Domain func(*testenv.Domain) error
}

// New returns a model without objects, below the organizational unit of this name. Its addresses begin
// with the name in lower case. Two models of one domain need different names.
func New(name string, rnd *rand.Rand) *Model {
	root := "OU=" + name + "," + testenv.BaseDN
	m := &Model{Root: root, In: "OU=In," + root, Second: "OU=Second," + root, Out: "OU=Out," + root, rnd: rnd,
		name: strings.ToLower(name), ous: map[string]*unit{}, run: strconv.FormatInt(time.Now().Unix(), 36)}
	m.Rules.Bases = []string{m.In}
	for i, parent := range []string{m.In, m.Out, m.Second} {
		u := &unit{name: fmt.Sprint("w", i), parent: parent}
		m.ous[u.name], m.wander = u, append(m.wander, u.name)
	}
	return m
}

// Anchors returns the recipients that never change and are valid by the rules of now.
func (m *Model) Anchors() []string { return m.anchors(m.covers) }

// AllAnchors is Anchors by any rules.
func (m *Model) AllAnchors() []string { return m.anchors(func(*person) bool { return true }) }

func (m *Model) anchors(want func(*person) bool) []string {
	list := []string{}
	for _, o := range m.objects {
		if o.class == "anchor" && want(o) {
			list = append(list, strings.TrimPrefix(o.proxies[0], "SMTP:"))
		}
	}
	return list
}

// Pool returns every address that an object may have at some time, except anchors.
func (m *Model) Pool() []string {
	var list []string
	for n := range pool {
		for _, domain := range domains {
			list = append(list, fmt.Sprintf("%s%d@%s", m.name, n, domain))
		}
	}
	return list
}

// Furnish creates the containers and a number of anchors in the domain, half of them in In and half in
// Second. With at least two, no base is ever empty.
func (m *Model) Furnish(d *testenv.Domain, anchors int) error {
	root, _, _ := strings.Cut(strings.TrimPrefix(m.Root, "OU="), ",")
	errs := []error{d.AddOU(root, testenv.BaseDN)}
	for _, name := range []string{"In", "Second", "Out"} {
		errs = append(errs, d.AddOU(name, m.Root))
	}
	for _, name := range m.wander {
		errs = append(errs, d.AddOU(name, m.ous[name].parent))
	}
	for i := range anchors {
		o := &person{name: m.newName(), class: "anchor", ou: []string{m.In, m.Second}[i%2],
			proxies: []string{fmt.Sprintf("SMTP:%s-anchor%d@corp.example", m.name, i)}}
		c := m.create(o)
		c.Model()
		errs = append(errs, c.Domain(d))
	}
	return errors.Join(errs...)
}

// newName returns a name that no tombstone has, also of earlier runs.
func (m *Model) newName() string {
	m.names++
	return fmt.Sprintf("%s-%s-%04d", m.name, m.run, m.names)
}

// Objects returns the number of objects, with the deleted ones.
func (m *Model) Objects() int { return len(m.objects) }

func (m *Model) living() []*person {
	return m.pick(func(o *person) bool { return !o.dead && o.class != "anchor" })
}
func (m *Model) deleted() []*person { return m.pick(func(o *person) bool { return o.dead }) }

func (m *Model) pick(want func(*person) bool) []*person {
	var list []*person
	for _, o := range m.objects {
		if want(o) {
			list = append(list, o)
		}
	}
	return list
}

func (m *Model) fixed() []string  { return []string{m.In, m.Second, m.Out} }
func (m *Model) places() []string { return append(m.fixed(), m.wander...) }

// ouDN returns the present DN of a container.
func (m *Model) ouDN(place string) string {
	if u := m.ous[place]; u != nil {
		return u.dn()
	}
	return place
}

func (m *Model) dn(o *person) string { return "CN=" + o.name + "," + m.ouDN(o.ou) }

func (m *Model) covers(o *person) bool { return m.Rules.cover(m.dn(o)) }

func (r Rules) cover(dn string) bool {
	return slices.ContainsFunc(r.Bases, func(base string) bool { return strings.HasSuffix(dn, ","+base) })
}

// Edits returns the rules as edits of the configuration of the harness. more is text for the directory.
func (r Rules) Edits(more string) []func(string) string {
	bases := make([]string, len(r.Bases))
	for i, base := range r.Bases {
		bases[i] = strconv.Quote(base)
	}
	keys := fmt.Sprintf("    poll: 1s\n    bases: [%s]\n", strings.Join(bases, ", ")) + more
	if r.ProxiesOnly {
		keys += "    address_attributes: [proxyAddresses]\n"
	}
	if r.OmitDisabled {
		keys += "    disabled_accounts: omit\n"
	}
	edits := []func(string) string{testenv.Replace("    poll: 1s\n", keys)}
	if r.Grace {
		edits = append(edits, testenv.Replace("removal_grace: 0s", "removal_grace: 1h"))
	}
	return edits
}

// Valid returns the addresses that the index must have.
func (m *Model) Valid() map[string]bool {
	valid := map[string]bool{}
	for _, o := range m.List() {
		if m.Rules.cover(o.DN) && !(m.Rules.OmitDisabled && o.Disabled) {
			for _, a := range addresses(o, m.Rules.ProxiesOnly) {
				valid[a] = true
			}
		}
	}
	return valid
}

// Owners returns the owners of each address of objects as text, by any rules. Two lists of objects
// agree in an address if its owners are the same.
func Owners(list []testenv.Object) map[string]string {
	owners := map[string]string{}
	for _, o := range list {
		proxies := addresses(o, true)
		for _, a := range slices.Compact(slices.Sorted(slices.Values(addresses(o, false)))) {
			owners[a] += fmt.Sprintf("%s disabled=%t alias=%t mail=%t; ", o.DN, o.Disabled, slices.Contains(proxies, a),
				a == o.Mail)
		}
	}
	return owners
}

// List describes the living objects as Domain.Objects does.
func (m *Model) List() []testenv.Object {
	var list []testenv.Object
	for _, o := range m.objects {
		if !o.dead {
			list = append(list, testenv.Object{DN: m.dn(o), Disabled: o.disabled, Mail: o.mail,
				Proxies: slices.Sorted(slices.Values(o.proxies))})
		}
	}
	testenv.SortObjects(list)
	return list
}

func (o *person) smtp() []string { return smtp(o.proxies) }

// smtp returns the values of proxyAddresses that are SMTP addresses.
func smtp(proxies []string) []string {
	var list []string
	for _, v := range proxies {
		if kind, _, _ := strings.Cut(v, ":"); strings.EqualFold(kind, "smtp") {
			list = append(list, v)
		}
	}
	return list
}

func (o *person) addresses(proxiesOnly bool) []string {
	return addresses(testenv.Object{Mail: o.mail, Proxies: o.proxies}, proxiesOnly)
}

// addresses returns the addresses of an object in lower case.
func addresses(o testenv.Object, proxiesOnly bool) []string {
	var list []string
	for _, v := range smtp(o.Proxies) {
		_, a, _ := strings.Cut(v, ":")
		list = append(list, strings.ToLower(a))
	}
	if o.Mail != "" && !proxiesOnly {
		list = append(list, o.Mail)
	}
	return list
}

func (o *person) hasProxy(address string) bool {
	return slices.Contains(o.addresses(true), address)
}

func (m *Model) create(o *person) Change {
	dn, ou := m.dn(o), m.ouDN(o.ou)
	p := testenv.Person{Name: o.name, OU: ou, Mail: o.mail, Proxies: slices.Clone(o.proxies)}
	return Change{fmt.Sprintf("create %s %s, mail %q, %q", o.class, dn, o.mail, o.proxies),
		func() { m.objects = append(m.objects, o) },
		func(d *testenv.Domain) (err error) {
			switch o.class {
			case "group":
				_, err = d.AddGroup(p)
			case "contact":
				_, err = d.AddContact(p)
			default:
				_, err = d.AddUser(p)
			}
			return err
		}}
}

func (m *Model) addProxy(o *person, value string) Change {
	dn := m.dn(o)
	return Change{"add " + value + " to " + dn, func() { o.proxies = append(o.proxies, value) },
		func(d *testenv.Domain) error { return d.AddProxy(dn, value) }}
}

func (m *Model) removeProxy(o *person, value string) Change {
	dn := m.dn(o)
	return Change{"remove " + value + " from " + dn,
		func() { o.proxies = slices.DeleteFunc(o.proxies, func(v string) bool { return v == value }) },
		func(d *testenv.Domain) error { return d.RemoveProxy(dn, value) }}
}

// setMail sets or clears the mail attribute of an object.
func (m *Model) setMail(o *person, mail string) Change {
	dn := m.dn(o)
	return Change{fmt.Sprintf("mail %q of %s", mail, dn), func() { o.mail = mail },
		func(d *testenv.Domain) error {
			if mail == "" {
				return d.Set(dn, "mail")
			}
			return d.Set(dn, "mail", mail)
		}}
}

// move renames an object or moves it.
func (m *Model) move(o *person, name, place string) Change {
	dn, ou := m.dn(o), m.ouDN(place)
	return Change{"move " + dn + " to " + name + " in " + ou, func() { o.name, o.ou = name, place },
		func(d *testenv.Domain) error { _, err := d.Move(dn, name, ou); return err }}
}

func (m *Model) moveOU(name, parent string) Change {
	u := m.ous[name]
	dn, same := u.dn(), u.parent == parent
	return Change{"move " + dn + " to " + parent, func() { u.parent = parent },
		func(d *testenv.Domain) error {
			if same {
				return nil
			}
			return d.MoveOU(dn, parent)
		}}
}

func (m *Model) disable(o *person, off bool) Change {
	dn := m.dn(o)
	return Change{fmt.Sprintf("disabled %t: %s", off, dn), func() { o.disabled = off },
		func(d *testenv.Domain) error {
			return d.Set(dn, "userAccountControl", map[bool]string{true: "546", false: "544"}[off])
		}}
}

func (m *Model) delete(o *person) Change {
	dn := m.dn(o)
	return Change{"delete " + dn, func() { o.dead = true }, func(d *testenv.Domain) error { return d.Delete(dn) }}
}

// undelete restores an object, without the addresses that its tombstone has lost.
func (m *Model) undelete(o *person, place string) Change {
	dn := "CN=" + o.name + "," + m.ouDN(place)
	return Change{"undelete " + dn,
		func() { o.dead, o.disabled, o.ou, o.mail, o.proxies = false, false, place, "", nil },
		func(d *testenv.Domain) error {
			if err := d.Undelete(o.name, dn); err != nil || o.class != "user" {
				return err
			}
			return d.Set(dn, "userAccountControl", "544")
		}}
}
