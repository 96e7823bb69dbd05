package simulated

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/directory"
	"rcpt-milter/mirror"
	"rcpt-milter/store"
	"rcpt-milter/testenv/adsim"
)

// knobs are the rules of what a recipient is, as this package understands them. It
// judges objects by itself: nothing here may call the classification that is tested.
type knobs struct {
	attributes   []string // nil: proxyAddresses and mail
	bases        []string // in any spelling
	exclude      []string // likewise
	refuse       bool     // internal_only: refuse
	omitSystem   bool
	omitDisabled bool
}

func (k knobs) rules() mirror.Rules {
	return mirror.Rules{Attributes: k.attributes, Bases: k.bases, Exclude: k.exclude, InternalOnly: k.refuse,
		OmitSystem: k.omitSystem, OmitDisabled: k.omitDisabled}
}

func (k knobs) String() string {
	return fmt.Sprintf("attributes %q, bases %q, exclude %q, refuse %t, omit system %t, omit disabled %t", k.attributes,
		k.bases, k.exclude, k.refuse, k.omitSystem, k.omitDisabled)
}

// owns gives the addresses of an object, in lower case, as far as the attributes can be
// read; restricted says whether they take mail from inside only.
func (k knobs) owns(e adsim.Entry, hidden []string) (addresses []string, restricted bool) {
	get := func(name string) []string {
		if slices.ContainsFunc(hidden, func(h string) bool { return strings.EqualFold(h, name) }) {
			return nil
		}
		return e.Attrs[strings.ToLower(name)]
	}
	first := func(name string) string { return append(get(name), "")[0] }
	kind := first("msExchRecipientTypeDetails")
	disabled := first("userAccountControl") == "514"
	switch {
	case e.Deleted || e.Kind == adsim.Computer || e.Kind == adsim.ManagedService || e.Kind == adsim.OU ||
		e.Kind == adsim.Container:
		return nil, false
	case !k.covers(e.DN):
		return nil, false
	case k.omitSystem && slices.Contains([]string{"8192", "549755813888", "4398046511104"}, kind):
		return nil, false
	case k.omitDisabled && disabled &&
		!slices.Contains([]string{"4", "16", "34359738368", "68719476736", "2199023255552", "4398046511104"}, kind):
		return nil, false
	}
	attributes := k.attributes
	if attributes == nil {
		attributes = []string{"proxyAddresses", "mail"}
	}
	for _, name := range attributes {
		for _, v := range get(name) {
			if name != "mail" {
				prefix, rest, _ := strings.Cut(v, ":")
				if !strings.EqualFold(strings.TrimSpace(prefix), "smtp") {
					continue
				}
				v = strings.TrimSpace(rest)
			}
			if strings.Contains(v, "@") && !strings.HasPrefix(v, "@") {
				addresses = append(addresses, strings.ToLower(v))
			}
		}
	}
	return addresses, k.refuse && first("msExchRequireAuthToSendTo") == "TRUE"
}

// covers reports whether the bases hold a name, and no excluded subtree does.
func (k knobs) covers(dn string) bool {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	within := func(subtree string) bool {
		d, s := plain(dn), plain(subtree)
		return d == s || strings.HasSuffix(d, ","+s)
	}
	return (len(k.bases) == 0 || slices.ContainsFunc(k.bases, within)) && !slices.ContainsFunc(k.exclude, within)
}

// pair is an address of an object.
type pair struct {
	guid    adsim.GUID
	address string
}

// share is what one object has in a key.
type share struct {
	pair
	key string
}

// shares lists them all.
func shares(pairs map[pair]bool) map[share]bool {
	all := map[share]bool{}
	for p, restricted := range pairs {
		all[share{p, p.address}] = true
		if !restricted {
			all[share{p, p.address + "!"}] = true
		}
	}
	return all
}

// view is the state of one controller, and since when it holds. A key is an address, or an
// address and "!" if an owner there accepts mail from outside.
type view struct {
	pairs  map[pair]bool           // owned now; restricted?
	byGUID map[adsim.GUID][]string // the same
	last   map[pair]int            // the last step at which a pair that is gone was there
	since  map[string]int          // key: step since which it has had an owner and was readable
	unread map[share]int           // step at which it came without a new USN; only a full pass reads it

	rootStep int       // of the last read of its rootDSE
	rootTime time.Time // of the same
	rootUSN  uint64
	database string
	reached  map[directory.GUID]uint64 // USN of the last good pass, by invocationId
	epochs   map[directory.GUID]int    // how often it was seen set back
	epoch    int                       // of the pass under way
	identity directory.GUID
}

func (v *view) init() {
	v.pairs, v.byGUID, v.last = map[pair]bool{}, map[adsim.GUID][]string{}, map[pair]int{}
	v.since, v.unread = map[string]int{}, map[share]int{}
	v.reached, v.epochs = map[directory.GUID]uint64{}, map[directory.GUID]int{}
}

// observe takes down what a step has made of a controller.
func (w *world) observe(c *controller) {
	c.view.observe(w.step, c.truth(), func(guid adsim.GUID) bool { return c.f.unfollowed[guid] })
	c.f.noteValid()
}

// truth lists what is owned on a controller under the rules of its forest.
func (c *controller) truth() map[pair]bool { return c.truthUnder(c.f.knobs, c.f.catalog) }

// truthUnder lists what is owned on a controller under some rules. The caller must not change the map.
func (c *controller) truthUnder(k knobs, catalog bool) map[pair]bool {
	if version := c.d.Version(); c.truths == nil || version != c.truthVersion {
		c.truthVersion, c.truths = version, map[string]map[pair]bool{}
	}
	rules := fmt.Sprint(k, catalog, c.hidden)
	pairs, computed := c.truths[rules]
	if !computed {
		pairs = c.computeTruth(k, catalog)
		c.truths[rules] = pairs
	}
	return pairs
}

func (c *controller) computeTruth(k knobs, catalog bool) map[pair]bool {
	pairs := map[pair]bool{}
	for e := range c.d.Live() {
		if !catalog && c.f.inChild(e.DN) {
			continue
		}
		addresses, restricted := k.owns(e, c.hidden)
		for _, a := range addresses {
			pairs[pair{e.GUID, a}] = restricted
		}
	}
	return pairs
}

// observe compares with the step before. Of some objects it happened silently: no
// incremental pass sees what they gained.
func (v *view) observe(step int, pairs map[pair]bool, silently func(adsim.GUID) bool) {
	for p := range v.pairs {
		if _, still := pairs[p]; !still {
			v.last[p] = step - 1
		}
	}
	clear(v.byGUID)
	for p := range pairs {
		v.byGUID[p.guid] = append(v.byGUID[p.guid], p.address)
	}
	before, now := shares(v.pairs), shares(pairs)
	for at := range v.unread {
		if !now[at] {
			delete(v.unread, at)
		}
	}
	keys := map[string]bool{}
	for at := range now {
		if !before[at] && silently(at.guid) {
			v.unread[at] = step
		}
		if _, hidden := v.unread[at]; !hidden {
			keys[at.key] = true
		}
	}
	for key := range v.since {
		if !keys[key] {
			delete(v.since, key)
		}
	}
	for key := range keys {
		if _, known := v.since[key]; !known {
			v.since[key] = step
		}
	}
	v.pairs = pairs
}

// missUnread marks the shares of an object that the index does not have yet, because the object hides uSNChanged
// now. Only a full pass will read them. known reports whether the index has a share.
func (v *view) missUnread(step int, guid adsim.GUID, known func(share) bool) {
	for at := range shares(v.pairs) {
		if at.guid == guid && !known(at) {
			v.unread[at] = step
		}
	}
}

// sighting is a pair that a mirror has read.
type sighting struct {
	at       time.Time
	database string
	until    time.Time // it may be given up from then on; zero: it was there when last looked for
	handed   time.Time // when it was missed first and another forest might have it; zero: it was not
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// promise is what the index of a forest must have.
type promise struct {
	followed *controller // controller of the last good pass; nil: none
	asOf     int         // step at which that pass began
	learned  map[pair]sighting

	// Begin of the current or the last pass. A full pass reads the rootDSE again while it reads.
	passStep int
	passTime time.Time
}

func (p *promise) passBegins(w *world) { p.passStep, p.passTime = w.step, w.now() }

func (p *promise) init() { p.learned = map[pair]sighting{} }

// begin records the rootDSE of a controller, which every pass reads first.
func (p *promise) begin(c *controller, root directory.Root) {
	v := &c.view
	v.rootStep, v.rootTime, v.rootUSN, v.identity = c.f.w.step, c.f.w.now(), root.HighestCommittedUSN, root.InvocationID
	v.epoch = v.epochs[v.identity]
	if v.rootUSN < v.reached[v.identity] {
		v.epoch++
	}
	v.database = fmt.Sprintf("%s %s %d, catalog %t", c.host(), v.identity, v.epoch, c.f.catalog)
	for at, l := range p.learned { // the clock may have been set back since
		if latest := v.rootTime.Add(lag); l.until.After(latest) {
			l.until = latest
			l.handed = earlier(l.handed, v.rootTime)
			p.learned[at] = l
		}
	}
}

// held returns the addresses that the index has of an object; false marks a missing one.
func (c *controller) held(guid adsim.GUID) map[string]bool {
	stored, err := c.f.w.store.Stored(c.f.name, store.GUID(guid))
	if err != nil {
		c.f.w.fail("stored object: %v", err)
	}
	held := map[string]bool{}
	for _, o := range stored.Addresses {
		held[o.Address.String()] = !o.Gone
	}
	return held
}

// known returns a function that reports whether the index has a share of an object.
func (c *controller) known(guid adsim.GUID) func(share) bool {
	stored, err := c.f.w.store.Stored(c.f.name, store.GUID(guid))
	if err != nil {
		c.f.w.fail("stored object: %v", err)
	}
	has := map[string]bool{}
	for _, o := range stored.Addresses {
		a := o.Address.String()
		has[a] = has[a] || !o.Gone
		has[a+"!"] = has[a+"!"] || !o.Gone && !o.InternalOnly
	}
	return func(at share) bool { return has[at.key] }
}

// shownObject is an object of a page, and what the index had of it before.
type shownObject struct {
	guid      adsim.GUID
	addresses []string
	held      map[string]bool
	sighting  sighting
}

func (c *controller) shows(guid adsim.GUID) shownObject {
	now := sighting{at: c.view.rootTime, database: c.view.database}
	return shownObject{guid, slices.Clone(c.view.byGUID[guid]), c.held(guid), now}
}

// applied records an object that was read and applied. An address that was missing and is back is a
// new sighting. An address that the index had and the model did not was seen at an unknown time,
// for example if a removal was forgotten.
func (p *promise) applied(s shownObject) {
	for _, a := range s.addresses {
		l, known := p.learned[pair{s.guid, a}]
		switch {
		case !s.held[a] && (!known || !l.until.IsZero()):
			p.learned[pair{s.guid, a}] = s.sighting
		case !known:
			p.learned[pair{s.guid, a}] = sighting{database: s.sighting.database}
		}
	}
}

// discarded records that held removals were discarded: only those that wait are missing now.
func (p *promise) discarded(waiting map[pair]bool) {
	for at, l := range p.learned {
		if waiting[at] {
			continue
		}
		l.until, l.handed = time.Time{}, time.Time{}
		p.learned[at] = l
	}
}

// committed records a good pass.
func (p *promise) committed(c *controller, kind store.Kind) {
	v := &c.view
	p.followed, p.asOf = c, v.rootStep
	c.f.setBack, c.f.read = false, readRules{true, c.f.knobs, c.f.catalog}
	v.reached[v.identity], v.epochs[v.identity] = v.rootUSN, v.epoch
	for at, step := range v.unread {
		if kind == store.Full && step <= p.passStep {
			delete(v.unread, at)
			if since, known := v.since[at.key]; !known || step < since {
				v.since[at.key] = step
			}
		}
	}
	handsOver := c.f.handsOver()
	for at, l := range p.learned {
		_, owned := v.pairs[at]
		_, unread := v.unread[share{at, at.address}]
		last, was := v.last[at]
		switch {
		case owned && unread: // it is back without a new USN, so the pass did not read it
		case owned || was && last >= v.rootStep:
			l.until, l.handed = time.Time{}, time.Time{}
		case c.deleted(at.guid):
			delete(p.learned, at)
			continue
		case handsOver(at) && (l.until.IsZero() || !l.handed.IsZero()):
			if l.handed.IsZero() {
				l.handed = earlier(v.rootTime, p.passTime)
			}
			l.until = l.handed.Add(lag)
		case l.database == v.database || !l.handed.IsZero():
			delete(p.learned, at)
			continue
		case l.until.IsZero():
			l.until = l.at.Add(lag)
			if v.rootTime.Before(l.at) { // the clock was set back
				l.until = earlier(v.rootTime, p.passTime).Add(lag)
			}
		}
		if !l.until.IsZero() && !c.f.w.now().Before(l.until) {
			delete(p.learned, at)
			continue
		}
		p.learned[at] = l
	}
}

// promises reports whether a key must be in the index.
func (p *promise) promises(key string) bool {
	if p.followed == nil {
		return false
	}
	since, shown := p.followed.view.since[key]
	return shown && since <= p.asOf
}

// deleted reports whether a controller has a tombstone of an object.
func (c *controller) deleted(guid adsim.GUID) bool {
	e, err := c.d.Get(guid)
	return err == nil && e.Deleted
}

// check compares the index with what is promised at this moment.
func (w *world) check(when string) {
	w.checkPolicy(when)
	for _, f := range w.forests {
		p := &f.promise
		if p.followed == nil {
			continue
		}
		for key, since := range p.followed.view.since {
			if since > p.asOf || p.promises(key+"!") || !w.sampled(key) {
				continue
			}
			w.mustNotReject(key, when, "it has had an owner at ", p.followed.host(), " since step ", since)
			text, open := strings.CutSuffix(key, "!")
			got := w.lookup(text)
			switch {
			case !got.Known:
				w.fail("%s: %s is unknown, and it has had an owner at %s since step %d (last good pass: %d)",
					when, text, p.followed.host(), since, p.asOf)
			case open && got.InternalOnly:
				w.fail("%s: %s is rejected for outside senders, and an owner at %s has accepted them since step %d "+
					"(last good pass: %d)",
					when, text, p.followed.host(), since, p.asOf)
			}
		}
		for at, l := range p.learned {
			if !w.now().Before(l.until) || !w.sampled(at.address) {
				continue
			}
			w.mustNotReject(at.address, when, l.database, " showed it")
			if !w.lookup(at.address).Known {
				w.fail("%s: %s of %s is unknown; %s had it at %s, and the followed controller may not have it before "+
					"%s",
					when, at.address, at.guid, l.database, l.at.Format(time.DateTime), l.until.Format(time.DateTime))
			}
		}
	}
}

func (w *world) lookup(text string) store.Presence {
	a, err := address.Parse(text)
	if err == nil {
		var got store.Presence
		if got, err = w.store.Lookup(a); err == nil {
			return got
		}
	}
	w.fail("look-up of %q: %v", text, err)
	return store.Presence{Known: true}
}
