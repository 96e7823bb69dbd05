package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Operation is a kind of operation and its relative frequency. Draw draws one of its kind as steps,
// which are made and applied one after the other.
type Operation struct {
	Name   string
	Weight int
	Draw   func() []Step
}

// Step makes a change of the model as it is then.
type Step func() Change

// Next draws an operation of the model alone.
func (m *Model) Next() (name string, steps []Step) {
	o := Choose(m.rnd, m.Operations(), func(o Operation) int { return o.Weight })
	return o.Name, o.Draw()
}

// Choose draws an element of a list by weight.
func Choose[T any](rnd *rand.Rand, list []T, weight func(T) int) T {
	all := 0
	for _, o := range list {
		all += weight(o)
	}
	n := rnd.IntN(all)
	for _, o := range list {
		if n -= weight(o); n < 0 {
			return o
		}
	}
	panic("no weight")
}

// Operations lists what may happen to the objects of the model. While there are few objects, that is
// only a creation.
func (m *Model) Operations() []Operation {
	create := func() []Step { return []Step{m.stepCreate(m.address())} }
	living := m.living()
	if len(living) < people/2 || len(living) < people && m.rnd.IntN(6) == 0 {
		return []Operation{{"create", 80, create}}
	}
	someone, other := draw(m, living), draw(m, living)
	return []Operation{
		{"create", 8, create},
		{"add", 9, func() []Step { return m.add(someone, m.address()) }},
		{"remove", 6, func() []Step { return m.remove(someone) }},
		{"mail", 5, func() []Step {
			return one(m.setMail(someone, draw(m, []string{"", m.address(), m.address()})))
		}},
		{"move-alias", 12, func() []Step { return m.moveAlias(someone, other) }},
		{"share", 4, func() []Step { return m.share(someone, other) }},
		{"rename", 4, func() []Step { return one(m.move(someone, m.newName(), someone.ou)) }},
		{"move", 10, func() []Step { return one(m.move(someone, someone.name, draw(m, m.places()))) }},
		{"move-ou", 5, func() []Step { return one(m.moveOU(draw(m, m.wander), draw(m, m.fixed()))) }},
		{"disable", 6, func() []Step { return m.toggle(someone) }},
		{"delete", 7, func() []Step { return one(m.delete(someone)) }},
		{"replace", 4, func() []Step { return m.replace(someone) }},
		{"undelete", 6, m.undeleteOne},
	}
}

func one(c Change) []Step { return []Step{func() Change { return c }} }

func draw[T any](m *Model, list []T) T { return list[m.rnd.IntN(len(list))] }

// address draws from a small pool, which makes collisions likely.
func (m *Model) address() string {
	return fmt.Sprintf("%s%d@%s", m.name, m.rnd.IntN(pool), draw(m, []string{domains[0], domains[0], domains[1]}))
}

// proxy spells an address as a value of proxyAddresses.
func (m *Model) proxy(address string) string {
	return draw(m, []string{"smtp:", "SMTP:", "sMtP:"}) + draw(m,
		[]string{address, strings.ToUpper(address[:1]) + address[1:]})
}

func (m *Model) stepCreate(addresses ...string) Step {
	o := person{name: m.newName(), class: draw(m, []string{"user", "user", "user", "group", "contact"}),
		ou: draw(m, m.places())}
	for _, a := range addresses {
		o.proxies = append(o.proxies, m.proxy(a))
	}
	if m.rnd.IntN(3) == 0 {
		o.proxies = append(o.proxies, "sip:"+o.name+"@corp.example", "X500:/o=Corp/cn="+o.name)
	}
	if m.rnd.IntN(3) == 0 {
		o.mail = m.address()
	}
	return func() Change { return m.create(&o) }
}

// add gives an object an alias that it does not have.
func (m *Model) add(o *person, address string) []Step {
	if o.hasProxy(address) {
		return nil
	}
	return one(m.addProxy(o, m.proxy(address)))
}

// remove removes an alias, if there is one.
func (m *Model) remove(o *person) []Step {
	if len(o.proxies) == 0 {
		return nil
	}
	return one(m.removeProxy(o, draw(m, o.proxies)))
}

// moveAlias moves an alias to another object. Usually the new owner gets it first.
func (m *Model) moveAlias(from, to *person) []Step {
	aliases := from.smtp()
	if len(aliases) == 0 || from == to {
		return m.add(to, m.address())
	}
	value := draw(m, aliases)
	_, address, _ := strings.Cut(value, ":")
	steps := append(m.add(to, strings.ToLower(address)), one(m.removeProxy(from, value))...)
	if m.rnd.IntN(3) == 0 {
		slices.Reverse(steps)
	}
	return steps
}

// share gives an address of one object to another as well.
func (m *Model) share(from, to *person) []Step {
	aliases := from.smtp()
	if len(aliases) == 0 {
		return nil
	}
	_, address, _ := strings.Cut(draw(m, aliases), ":")
	return m.add(to, strings.ToLower(address))
}

// toggle disables an account, or enables it.
func (m *Model) toggle(o *person) []Step {
	if o.class != "user" {
		return nil
	}
	return one(m.disable(o, !o.disabled))
}

// replace deletes an object and creates another one with its addresses, in either order.
func (m *Model) replace(o *person) []Step {
	addresses := slices.Compact(slices.Sorted(slices.Values(o.addresses(false))))
	steps := append(one(m.delete(o)), m.stepCreate(addresses...))
	if m.rnd.IntN(2) == 0 {
		slices.Reverse(steps)
	}
	return steps
}

// undeleteOne restores a deleted object, if there is one, and gives it an alias.
func (m *Model) undeleteOne() []Step {
	dead := m.deleted()
	if len(dead) == 0 {
		return nil
	}
	o, place, value := draw(m, dead), draw(m, m.places()), m.proxy(m.address())
	return append(one(m.undelete(o, place)), func() Change { return m.addProxy(o, value) })
}

// DrawRules draws rules for recipients. Models of one domain have the same rules, except for Bases.
func DrawRules(rnd *rand.Rand) Rules {
	return Rules{ProxiesOnly: rnd.IntN(3) == 0, OmitDisabled: rnd.IntN(2) == 0, Grace: rnd.IntN(2) == 0}
}

// DrawBases draws bases of the model.
func (m *Model) DrawBases(rnd *rand.Rand) []string {
	list := [][]string{{m.In}, {m.In, m.Second}, {m.Second}}
	return list[rnd.IntN(len(list))]
}
