package real

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is what the oracle knows of an address at a moment.
type State int

const (
	Never    State = iota // it never existed
	Changing              // it changed, and the change may not have arrived everywhere
	Valid                 // it must not be rejected
	Gone                  // removed everywhere: it must not be accepted
)

func (s State) String() string { return [...]string{"never", "changing", "valid", "gone"}[s] }

// Class is the class of an answer.
type Class int

const (
	Lost     Class = iota // the connection ended first
	Accepted              // 2xx
	Deferred              // 4xx
	Rejected              // 5xx
)

func (c Class) String() string { return [...]string{"lost", "accepted", "deferred", "rejected"}[c] }

// classOf returns the class of a reply code.
func classOf(code int) Class {
	switch code / 100 {
	case 2:
		return Accepted
	case 4:
		return Deferred
	case 5:
		return Rejected
	}
	return Lost
}

// allowed reports whether an answer is right for an address that had these states between question
// and answer. With lenient, the configuration accepted unknown recipients at some time between.
func allowed(states []State, lenient bool, answer Class) bool {
	if answer == Lost || answer == Deferred || slices.Contains(states, Changing) {
		return true
	}
	valid, absent := slices.Contains(states, Valid), slices.Contains(states, Never) || slices.Contains(states, Gone)
	switch {
	case valid && absent:
		return true
	case valid:
		return answer == Accepted
	default:
		return answer == Rejected || lenient
	}
}

// kept is the number of events that the oracle keeps of each address.
const kept = 30

// event is a new state of an address, or a change that left its state.
type event struct {
	at    time.Time
	state State
	why   string
}

// span is a period; a zero end has not ended.
type span struct{ from, to time.Time }

// Oracle knows which answers are right for each address at each moment. An address without events
// never existed.
type Oracle struct {
	began time.Time

	mu      sync.Mutex // guards the fields below
	events  map[string][]event
	lenient []span
}

// NewOracle returns an oracle; began is the zero of the times that it prints.
func NewOracle(began time.Time) *Oracle { return &Oracle{began: began, events: map[string][]event{}} }

// Set records the state of an address from a moment on. Moments of one address must not decrease.
func (o *Oracle) Set(address string, state State, at time.Time, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := append(o.events[address], event{at, state, why})
	if len(list) > kept {
		list = slices.Clone(list[len(list)-kept:])
	}
	o.events[address] = list
}

// Note records a change that leaves the state of an address as it is.
func (o *Oracle) Note(address string, at time.Time, why string) {
	o.Set(address, o.Now(address), at, why)
}

// Now returns the present state of an address.
func (o *Oracle) Now(address string) State {
	o.mu.Lock()
	defer o.mu.Unlock()
	return last(o.events[address]).state
}

func last(list []event) event {
	if len(list) == 0 {
		return event{}
	}
	return list[len(list)-1]
}

// In returns the addresses with a state.
func (o *Oracle) In(state State) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for address, events := range o.events {
		if last(events).state == state {
			list = append(list, address)
		}
	}
	slices.Sort(list)
	return list
}

// Lenient records that the configuration accepts unknown recipients from a moment on, or no longer.
func (o *Oracle) Lenient(on bool, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	open := len(o.lenient) > 0 && o.lenient[len(o.lenient)-1].to.IsZero()
	switch {
	case on && !open:
		o.lenient = append(o.lenient, span{from: at})
	case !on && open:
		o.lenient[len(o.lenient)-1].to = at
	}
}

// states returns the states that an address had between two moments, and whether unknown recipients
// were accepted at some time between. The oldest event that is kept counts for all time before it if
// events were dropped.
func (o *Oracle) states(address string, asked, answered time.Time) (states []State, lenient bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.events[address]
	first := Never
	if len(list) == kept {
		first = Changing // what was before is not kept
	}
	states = []State{first}
	for _, e := range list {
		switch {
		case !e.at.After(asked):
			states = []State{e.state}
		case !e.at.After(answered):
			states = append(states, e.state)
		}
	}
	for _, s := range o.lenient {
		lenient = lenient || !s.from.After(answered) && (s.to.IsZero() || !s.to.Before(asked))
	}
	return slices.Compact(states), lenient
}

// Judge reports whether an answer about an address is right, and the states of the address.
func (o *Oracle) Judge(address string, asked, answered time.Time, answer Class) (states []State, right bool) {
	states, lenient := o.states(address, asked, answered)
	return states, allowed(states, lenient, answer)
}

// History returns the kept events of an address as text, one a line.
func (o *Oracle) History(address string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var text strings.Builder
	for _, e := range o.events[address] {
		fmt.Fprintf(&text, "    %8.3f s  %-8s  %s\n", e.at.Sub(o.began).Seconds(), e.state, e.why)
	}
	if text.Len() == 0 {
		return "    never existed\n"
	}
	return text.String()
}
