package directory

import "time"

const (
	// maxRead limits how long a read may wait for the controller. 5 million objects take 3 hours over a line that
	// needs 2 seconds for a page.
	maxRead = 24 * time.Hour

	// After slowAfter, a read must have returned slowest objects per second on average. A page of 1000 objects that
	// takes as long as it may returns 7 a second.
	slowAfter = time.Hour
	slowest   = 1

	// maxAgain limits how often the remembered objects come again on average, and freeAgain is how often they may
	// come more. An object that changes during a read comes again.
	maxAgain  = 5
	freeAgain = 100

	remembered    = 1000                        // how many objects are remembered
	firstInterval = (maxAgain + 2) * remembered // how many objects pass before others are remembered
)

// progress notices a controller whose search never ends. The zero value is one that has begun.
//
// A controller that returns the same objects forever returns any of them again. So progress remembers some only,
// and later ones each time as many objects as before have passed (Brent's algorithm).
type progress struct {
	waited  time.Duration
	objects int

	change int           // at so many objects, others are remembered
	some   map[GUID]bool // the remembered ones
	again  int           // how often they have come again
}

// note records a page that was waited for. It returns ErrTimeout or ErrProtocol if the read does not get on.
func (p *progress) note(objects []Object, waited time.Duration) error {
	if p.objects >= p.change {
		p.change = p.objects + max(p.objects, firstInterval)
		p.some, p.again = map[GUID]bool{}, 0
	}
	for _, o := range objects {
		if p.some[o.GUID] {
			p.again++
		} else if len(p.some) < remembered {
			p.some[o.GUID] = true
		}
	}
	p.waited += waited
	p.objects += len(objects)
	switch {
	case p.again > maxAgain*len(p.some)+freeAgain:
		return newError(ErrProtocol, "the controller returns the same objects again and again")
	case p.waited > maxRead:
		return newError(ErrTimeout, "the read has taken more than %v", maxRead)
	case p.waited > slowAfter && float64(p.objects) < slowest*p.waited.Seconds():
		return newError(ErrTimeout, "the controller returned only %d objects in %v", p.objects,
			p.waited.Round(time.Minute))
	}
	return nil
}
