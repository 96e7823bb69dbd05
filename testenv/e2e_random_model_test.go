package testenv_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rcpt-milter/testenv"
)

// Containers of the objects of the random life. The first three do not move, and bases name
// two of them.
const (
	lifeOU     = "OU=Life," + testenv.BaseDN
	lifeIn     = "OU=In," + lifeOU
	lifeSecond = "OU=Second," + lifeOU
	lifeOut    = "OU=Out," + lifeOU
)

// rules decide which objects are recipients, as the test understands them.
type rules struct {
	Bases        []string
	ProxiesOnly  bool
	OmitDisabled bool
	Grace        bool // removed addresses are deferred, not refused
}

// model is the domain as the test changed it. The test never reads it from the directory.
type model struct {
	rules   rules
	blind   bool // the daemon may not see deleted objects
	objects []*person
	ous     map[string]*unit // by name
	wander  []string         // names of the units that move
	names   int
	run     string
}

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

// change is one operation on the model and on the domain.
type change struct {
	what   string
	model  func()
	domain func(*testenv.Domain) error
}

func newModel() *model {
	m := &model{rules: rules{Bases: []string{lifeIn}}, ous: map[string]*unit{},
		run: strconv.FormatInt(time.Now().Unix(), 36)}
	for i, parent := range []string{lifeIn, lifeOut, lifeSecond} {
		u := &unit{name: fmt.Sprint("w", i), parent: parent}
		m.ous[u.name], m.wander = u, append(m.wander, u.name)
	}
	return m
}

// anchors are recipients that never change, so no base is ever empty.
func (m *model) anchors() []string {
	list := []string{}
	for _, o := range m.objects {
		if o.class == "anchor" && m.covers(o) {
			list = append(list, strings.TrimPrefix(o.proxies[0], "SMTP:"))
		}
	}
	return list
}

// furnish creates the initial objects.
func (m *model) furnish(d *testenv.Domain) error {
	errs := []error{d.AddOU("Life", testenv.BaseDN)}
	for _, name := range []string{"In", "Second", "Out"} {
		errs = append(errs, d.AddOU(name, lifeOU))
	}
	for _, name := range m.wander {
		errs = append(errs, d.AddOU(name, m.ous[name].parent))
	}
	for i, ou := range []string{lifeIn, lifeSecond} {
		o := &person{name: m.newName(), class: "anchor", ou: ou,
			proxies: []string{fmt.Sprintf("SMTP:anchor%d@corp.example", i)}}
		errs = append(errs, m.create(o).domain(d))
		m.objects = append(m.objects, o)
	}
	return errors.Join(errs...)
}

// newName returns a name that no tombstone has, also of earlier runs.
func (m *model) newName() string {
	m.names++
	return fmt.Sprintf("life-%s-%04d", m.run, m.names)
}

func (m *model) living() []*person {
	return m.pick(func(o *person) bool { return !o.dead && o.class != "anchor" })
}
func (m *model) deleted() []*person { return m.pick(func(o *person) bool { return o.dead }) }

func (m *model) pick(want func(*person) bool) []*person {
	var list []*person
	for _, o := range m.objects {
		if want(o) {
			list = append(list, o)
		}
	}
	return list
}

func (m *model) fixed() []string  { return []string{lifeIn, lifeSecond, lifeOut} }
func (m *model) places() []string { return append(m.fixed(), m.wander...) }

// ouDN returns the present DN of a container.
func (m *model) ouDN(place string) string {
	if u := m.ous[place]; u != nil {
		return u.dn()
	}
	return place
}

func (m *model) dn(o *person) string { return "CN=" + o.name + "," + m.ouDN(o.ou) }

func (m *model) covers(o *person) bool {
	return slices.ContainsFunc(m.rules.Bases, func(base string) bool { return strings.HasSuffix(m.dn(o), ","+base) })
}

// valid returns the addresses that the index must have.
func (m *model) valid() map[string]bool {
	valid := map[string]bool{}
	for _, o := range m.objects {
		if !o.dead && m.covers(o) && !(m.rules.OmitDisabled && o.disabled) {
			for _, a := range o.addresses(m.rules.ProxiesOnly) {
				valid[a] = true
			}
		}
	}
	return valid
}

// list describes the objects as Domain.Objects does.
func (m *model) list() []string {
	var list []string
	for _, o := range m.objects {
		if !o.dead {
			values := slices.Clone(o.proxies)
			if o.mail != "" {
				values = append(values, o.mail)
			}
			list = append(list, testenv.DescribeObject(m.dn(o), o.disabled, values))
		}
	}
	slices.Sort(list)
	return list
}

// smtp returns the values of proxyAddresses that are SMTP addresses.
func (o *person) smtp() []string {
	var list []string
	for _, v := range o.proxies {
		if kind, _, _ := strings.Cut(v, ":"); strings.EqualFold(kind, "smtp") {
			list = append(list, v)
		}
	}
	return list
}

func (o *person) addresses(proxiesOnly bool) []string {
	var list []string
	for _, v := range o.smtp() {
		_, a, _ := strings.Cut(v, ":")
		list = append(list, strings.ToLower(a))
	}
	if o.mail != "" && !proxiesOnly {
		list = append(list, o.mail)
	}
	return list
}

func (o *person) hasProxy(address string) bool {
	return slices.Contains(o.addresses(true), address)
}

func (m *model) create(o *person) change {
	dn, ou := m.dn(o), m.ouDN(o.ou)
	p := testenv.Person{Name: o.name, OU: ou, Mail: o.mail, Proxies: slices.Clone(o.proxies)}
	return change{fmt.Sprintf("create %s %s, mail %q, %q", o.class, dn, o.mail, o.proxies),
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

func (m *model) addProxy(o *person, value string) change {
	dn := m.dn(o)
	return change{"add " + value + " to " + dn, func() { o.proxies = append(o.proxies, value) },
		func(d *testenv.Domain) error { return d.AddProxy(dn, value) }}
}

func (m *model) removeProxy(o *person, value string) change {
	dn := m.dn(o)
	return change{"remove " + value + " from " + dn,
		func() { o.proxies = slices.DeleteFunc(o.proxies, func(v string) bool { return v == value }) },
		func(d *testenv.Domain) error { return d.RemoveProxy(dn, value) }}
}

// setMail sets or clears the mail attribute of an object.
func (m *model) setMail(o *person, mail string) change {
	dn := m.dn(o)
	return change{fmt.Sprintf("mail %q of %s", mail, dn), func() { o.mail = mail },
		func(d *testenv.Domain) error {
			if mail == "" {
				return d.Set(dn, "mail")
			}
			return d.Set(dn, "mail", mail)
		}}
}

// move renames an object or moves it.
func (m *model) move(o *person, name, place string) change {
	dn, ou := m.dn(o), m.ouDN(place)
	return change{"move " + dn + " to " + name + " in " + ou, func() { o.name, o.ou = name, place },
		func(d *testenv.Domain) error { _, err := d.Move(dn, name, ou); return err }}
}

func (m *model) moveOU(name, parent string) change {
	u := m.ous[name]
	dn, same := u.dn(), u.parent == parent
	return change{"move " + dn + " to " + parent, func() { u.parent = parent },
		func(d *testenv.Domain) error {
			if same {
				return nil
			}
			return d.MoveOU(dn, parent)
		}}
}

func (m *model) disable(o *person, off bool) change {
	dn := m.dn(o)
	return change{fmt.Sprintf("disabled %t: %s", off, dn), func() { o.disabled = off },
		func(d *testenv.Domain) error {
			return d.Set(dn, "userAccountControl", map[bool]string{true: "546", false: "544"}[off])
		}}
}

func (m *model) delete(o *person) change {
	dn := m.dn(o)
	return change{"delete " + dn, func() { o.dead = true }, func(d *testenv.Domain) error { return d.Delete(dn) }}
}

// undelete restores an object, without the addresses that its tombstone has lost.
func (m *model) undelete(o *person, place string) change {
	dn := "CN=" + o.name + "," + m.ouDN(place)
	return change{"undelete " + dn,
		func() { o.dead, o.disabled, o.ou, o.mail, o.proxies = false, false, place, "", nil },
		func(d *testenv.Domain) error {
			if err := d.Undelete(o.name, dn); err != nil || o.class != "user" {
				return err
			}
			return d.Set(dn, "userAccountControl", "544")
		}}
}
