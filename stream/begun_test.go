package stream

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"rcpt-milter/directory"
	"rcpt-milter/mirror"
)

// errCut is the error of a read that a test cut off.
var errCut = errors.New("cut off by the test")

// scissors cut the reads of an edge off, as the loss of the engine does.
type scissors struct {
	cut  atomic.Bool
	keep atomic.Int64 // objects that arrive before
}

// arm makes reads fail after some objects.
func (s *scissors) arm(keep int) {
	s.keep.Store(int64(keep))
	s.cut.Store(true)
}

// cutSource is a source whose reads can be cut off.
type cutSource struct {
	*Source
	scissors *scissors
}

func (c cutSource) Read(ctx context.Context, since uint64, page func([]directory.Object) error) error {
	if !c.scissors.cut.Load() {
		return c.Source.Read(ctx, since, page)
	}
	left := int(c.scissors.keep.Load())
	err := c.Source.Read(ctx, since, func(objects []directory.Object) error {
		n := min(left, len(objects))
		left -= n
		if err := page(slices.Clone(objects[:n])); err != nil {
			return err
		}
		if n < len(objects) {
			return errCut
		}
		return nil
	})
	if err == nil {
		err = errCut
	}
	return err
}

// withScissors lets a test cut the reads of an edge off. It must not run yet.
func (n *node) withScissors() *scissors {
	s := new(scissors)
	n.config.Candidates = []mirror.Candidate{{Name: "cut", Dial: func(context.Context) (mirror.Source, error) {
		source, err := n.client.Source("corp", n.source)
		return cutSource{source, s}, err
	}}}
	return s
}

// TestBackupWhilePassHadBegun restores an engine from a backup while the edge has read a part of something
// newer, which no pass has committed. The addresses of that part stay.
func TestBackupWhilePassHadBegun(t *testing.T) {
	const never = 1000 // objects; there are fewer
	for _, tt := range []struct {
		name string
		// newGeneration: the part is of another generation than the backup.
		// newEdge: the edge has committed nothing at all.
		newGeneration, newEdge, restart bool
		why                             error
	}{
		{name: "new generation", newGeneration: true, why: mirror.ErrNotNewer},
		{name: "new generation, edge restarted", newGeneration: true, restart: true, why: mirror.ErrNotNewer},
		{name: "new generation, new edge", newGeneration: true, newEdge: true, why: mirror.ErrNotNewer},
		{name: "same generation", why: mirror.ErrSetBack},
		{name: "same generation, edge restarted", restart: true, why: mirror.ErrSetBack},
		{name: "same generation, new edge", newEdge: true, why: mirror.ErrSetBack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}
			w.domain.fill(20)
			w.hub = newHub(t, "hub", w.domain, w.engine.client("hub")).start()
			w.edge = newEdge(t, "edge", w.engine.client("edge"))
			cut := w.edge.withScissors()
			if !tt.newEdge {
				w.edge.start()
				equal(t, w.hub, w.edge)
			}
			eventually(t, "the hub has published", func() bool { return !w.hub.publisher.Status().Published.IsZero() })
			cut.arm(never)
			w.hub.stop()
			if tt.newEdge {
				w.edge.start()
				eventually(t, "the edge has begun", func() bool { return w.edge.has("p0@corp.example") })
			} else if r := <-w.edge.mirror.Sync(false); !errors.Is(r.Err, errCut) {
				t.Fatal(r.Err)
			}
			w.engine.stop()
			old := w.engine.backup()
			w.engine.start()
			if tt.newGeneration {
				if err := w.engine.admin().DeleteStream(t.Context(), streamName("corp")); err != nil {
					t.Fatal(err)
				}
			}
			w.domain.add("later", "later@corp.example")
			w.hub.start()
			eventually(t, "the edge has read a part", func() bool { return w.edge.has("later@corp.example") })
			w.hub.stop()
			w.engine.stop()
			w.engine.restore(old)
			w.engine.start()
			cut.cut.Store(false)
			if tt.restart {
				w.edge.stop()
				w.edge.start()
			}
			eventually(t, "the edge does not follow the backup", func() bool {
				if !w.edge.has("later@corp.example") {
					t.Fatal("the edge forgot an address")
				}
				return errors.Is(w.edge.mirror.Status().LastError, tt.why)
			})
			w.hub.start()
			w.still("last")
			if !w.edge.has("later@corp.example") {
				t.Error("the edge forgot an address")
			}
		})
	}
}
