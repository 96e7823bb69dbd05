package simulated

import (
	"strings"
	"time"

	"rcpt-milter/mirror"
	"rcpt-milter/testenv/adsim"
)

// turnKnobs changes the rules of what a recipient is.
func (w *world) turnKnobs(f *forest) {
	f.knobs = w.drawKnobs(f)
	f.useKnobs()
}

// turnKnobsTwice changes the rules and back again, with a pass in between that fails
// in its middle.
func (w *world) turnKnobsTwice(f *forest) {
	before := f.knobs
	f.knobs = w.drawKnobs(f)
	f.useKnobs()
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{OnPage: 1 + w.rnd.IntN(5), CutAfterEntries: 1})
	}
	w.pass(f, false)
	for _, c := range f.controllers {
		c.server.SetFaults(adsim.Faults{})
	}
	f.knobs = before
	f.useKnobs()
}

func (f *forest) useKnobs() {
	f.w.note("%s: rules: %v", f.name, f.knobs)
	for _, c := range f.controllers {
		f.w.observe(c)
	}
	f.start()
}

func (w *world) drawKnobs(f *forest) knobs {
	people, left, users := "OU=People,"+f.base, "ou = Left , "+strings.ToLower(f.base), "CN=Users,"+f.base
	return knobs{
		attributes: pick(w.rnd, [][]string{nil, nil, {"proxyAddresses"}, {"mail"}, {"mail", "proxyAddresses"}}),
		bases: pick(w.rnd, [][]string{nil, {people}, {people}, {people, users}, {left}, {left, "OU=Deep," + people},
			{strings.ToUpper(people), left}}),
		exclude: pick(w.rnd, [][]string{nil, nil, {"OU=Sub," + people},
			{"ou=sub , " + strings.ToUpper(people), "OU=Gone," + f.base}, {"OU=Deep," + people}}),
		refuse:       w.rnd.IntN(2) == 0,
		omitSystem:   w.rnd.IntN(2) == 0,
		omitDisabled: w.rnd.IntN(2) == 0,
	}
}

func (w *world) setGuard(f *forest) {
	f.guard = pick(w.rnd, []mirror.Guard{{}, {Percent: 5, Count: 8, Max: 30}, {Percent: 10, Count: 2, Max: 12},
		{Percent: 100, Count: 1000, Max: 5},
		{Percent: 5, Count: 50, Max: 1000, Share: 30}, {Percent: 100, Count: 1000, Max: 1000, Share: 10},
		{Percent: 100, Count: 1000, Max: 1000, Share: 50}, {Percent: 100, Count: 1000, Max: 1000, Share: 60}})
	f.guard.Window = 24 * time.Hour
	w.note("%s: guard %+v", f.name, f.guard)
	f.start()
}
