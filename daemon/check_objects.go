package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rcpt-milter/address"
	"rcpt-milter/config"
	"rcpt-milter/directory"
	"rcpt-milter/internal/text"
	"rcpt-milter/mirror"
)

const (
	// objectsTimeout limits reading all objects of one directory.
	objectsTimeout = 10 * time.Minute
	// maxNamed limits the objects or values that one finding lists.
	maxNamed = 20
	// maxPlaces limits the containers that one finding lists.
	maxPlaces = 5
)

// objectsCheck examines all objects of a directory, as a full pass does.
type objectsCheck struct {
	*controllerCheck
	rules   mirror.Rules
	seen    int
	unread  []string // first values that need correction
	unreads int      // number of values that need correction
	hidden  []string // first objects whose uSNChanged is hidden
	hiding  places   // all objects whose uSNChanged is hidden
}

// checkObjects reads all objects. It reports values that need correction, and objects whose uSNChanged is
// hidden. It records which domains have addresses, and which recipients are outside the bases.
func (c *controllerCheck) checkObjects(ctx context.Context) error {
	o := &objectsCheck{controllerCheck: c, rules: rulesOf(c.d), hiding: places{}}
	limited, cancel := context.WithTimeout(ctx, objectsTimeout)
	defer cancel()
	err := c.conn.Read(limited, 0, func(objects []directory.Object) error {
		for _, object := range objects {
			o.look(object)
		}
		return limited.Err()
	})
	if err != nil && (ctx.Err() != nil || !errors.Is(limited.Err(), context.DeadlineExceeded)) {
		return err
	}
	if err != nil {
		c.warning("objects-unread",
			"%s: only %d objects were checked, because reading them takes longer than %s",
			c.where, o.seen, text.Duration(objectsTimeout))
	}
	c.complete[c.d.Name] = err == nil
	o.report()
	return nil
}

func (o *objectsCheck) look(object directory.Object) {
	o.seen++
	e := o.rules.Examine(object)
	if !e.InScope {
		o.noteOutside(object.DN, e)
		return
	}
	for _, v := range e.Unread {
		if o.unreads++; len(o.unread) < maxNamed {
			o.unread = append(o.unread, unparsedOf(o.d.Name, object.DN, v).Text())
		}
	}
	if e.HidesUSN {
		o.hiding.add(parentOf(object.DN), object.DN)
		if len(o.hidden) < maxNamed {
			o.hidden = append(o.hidden, object.DN)
		}
	}
	for _, a := range e.Addresses {
		o.noteDomain(a)
		if o.coverage.inside != nil && o.judges(a) {
			o.coverage.inside[a] = true
		}
	}
}

func (o *objectsCheck) report() {
	for _, line := range o.unread {
		o.warning("value-unusable", "%s: value needs correction: %s", o.where, line)
	}
	if more := o.unreads - len(o.unread); more > 0 {
		o.warning("value-unusable",
			"%s: %s correction", o.where, text.Count(more, "more value needs", "more values need"))
	}
	if n := o.hiding.total(); n > 0 {
		named := strings.Join(o.hidden, "; ")
		if more := n - len(o.hidden); more > 0 {
			named += fmt.Sprintf("; and %d more", more)
		}
		o.problem("usn-hidden",
			fmt.Errorf("%s: %s uSNChanged from %s, so only full passes see their changes, and removals of such "+
				"a pass wait; give it the right to read uSNChanged in %s: %s",
				o.where, text.Count(n, "object hides", "objects hide"), o.d.Bind.Name(), o.hiding, named))
	}
	if o.unreads == 0 && o.hiding.total() == 0 {
		o.good("objects",
			"%s: %s checked, all addresses can be read", o.where, text.Count(o.seen, "object", "objects"))
	}
}

// coverage records the recipients inside and outside the bases of all directories.
type coverage struct {
	inside  map[address.Address]bool // addresses in our domains; nil if no directory has bases or exclude
	outside []outsider
}

// outsider is an object outside the bases of its directory that owns addresses in our domains.
type outsider struct {
	where     string // prefix of each finding
	dn, class string
	excluded  bool
	addresses []address.Address // in our domains
}

// newCoverage returns an empty coverage.
func newCoverage(c *config.Config) coverage {
	limited := func(d config.Directory) bool { return len(d.Bases)+len(d.Exclude) > 0 }
	if !slices.ContainsFunc(c.Directories, limited) {
		return coverage{}
	}
	return coverage{inside: map[address.Address]bool{}}
}

// judges reports whether an address decides about recipients that are judged, in a domain that the directory may
// own. The domain may be the target of a domain alias, without an entry of its own.
func (c *controllerCheck) judges(a address.Address) bool {
	return c.config.Guards(a.Domain()) && c.d.MayOwn(a.Domain())
}

func (o *objectsCheck) noteOutside(dn string, e mirror.Examined) {
	var ours []address.Address
	for _, a := range e.Addresses {
		if o.judges(a) {
			ours = append(ours, a)
		}
	}
	if len(ours) > 0 {
		o.coverage.outside = append(o.coverage.outside, outsider{o.where, dn, e.Class, e.Excluded, ours})
	}
}

// checkCoverage reports recipients in our domains that no directory covers. It lists public folders first,
// because most of them are in a container of their own.
func (l *liveCheck) checkCoverage() {
	type group struct{ folders, others, excluded places }
	groups := map[string]*group{}
	for _, o := range l.coverage.outside {
		at := slices.IndexFunc(o.addresses, func(a address.Address) bool { return !l.coverage.inside[a] })
		if at < 0 {
			continue
		}
		g := groups[o.where]
		if g == nil {
			g = &group{places{}, places{}, places{}}
			groups[o.where] = g
		}
		in := g.others
		switch {
		case o.excluded:
			in = g.excluded
		case o.class == "publicfolder":
			in = g.folders
		}
		in.add(parentOf(o.dn), o.addresses[at].String())
	}
	for _, where := range slices.Sorted(maps.Keys(groups)) {
		g := groups[where]
		if n := g.folders.total(); n > 0 {
			lies := text.Count(n, "public folder with an address of our domains lies",
				"public folders with addresses of our domains lie")
			l.warning("folders-outside",
				"%s: %s outside bases, and would be rejected: %s; add these containers to bases", where, lies,
				g.folders)
		}
		if n := g.others.total(); n > 0 {
			l.warning("recipients-outside",
				"%s: %s outside bases, and would be rejected: %s; add what is missing to bases", where,
				text.Count(n, "recipient of our domains lies", "recipients of our domains lie"), g.others)
		}
		if n := g.excluded.total(); n > 0 {
			l.good("recipients-excluded", "%s: %s left out by exclude: %s", where,
				text.Count(n, "recipient of our domains is", "recipients of our domains are"), g.excluded)
		}
	}
}

// places counts objects by container, and keeps one example of each.
type places map[string]*place

type place struct {
	count   int
	example string
}

func (p places) add(container, example string) {
	if p[container] == nil {
		p[container] = &place{example: example}
	}
	p[container].count++
}

func (p places) total() int {
	n := 0
	for _, at := range p {
		n += at.count
	}
	return n
}

// String lists the containers, most objects first.
func (p places) String() string {
	names := slices.SortedFunc(maps.Keys(p), func(a, b string) int {
		return cmp.Or(p[b].count-p[a].count, strings.Compare(a, b))
	})
	var list []string
	for _, name := range names[:min(len(names), maxPlaces)] {
		list = append(list, fmt.Sprintf("%s (%d, such as %s)", name, p[name].count, p[name].example))
	}
	if more := len(names) - len(list); more > 0 {
		list = append(list, text.Count(more, "other container", "other containers"))
	}
	return strings.Join(list, "; ")
}

// parentOf returns the DN of an object's parent. An escaped comma is part of a name (RFC 4514).
func parentOf(dn string) string {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[i+1:]
		}
	}
	return dn
}
