package stream

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/store"
)

// olderStream returns the settings that an older version gave to the stream of a directory.
func olderStream(dir string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: streamName(dir), Description: "addresses of " + dir,
		Subjects: []string{allObjects(dir), stateSubject(dir)}, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld,
		MaxMsgSize: maxPayload + 4096, AllowMsgTTL: true}
}

// TestOlderStreamGetsLimits gives a stream with content the settings of an older version. A hub that starts
// must update them without loss for the stream or an edge.
func TestOlderStreamGetsLimits(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		name := map[bool]string{false: "consumers of edges", true: "consumer of another program"}[foreign]
		t.Run(name, func(t *testing.T) {
			w := &trio{t: t, engine: newEngine(t, nil), domain: newDomain(t)}
			w.domain.fill(20)
			js := w.engine.admin()
			s, err := js.CreateStream(t.Context(), olderStream("corp"))
			if err != nil {
				t.Fatal(err)
			}
			if foreign { // lives longer than the limit permits, so the engine rejects the limit
				if _, err := s.CreateConsumer(t.Context(),
					jetstream.ConsumerConfig{InactiveThreshold: time.Hour}); err != nil {
					t.Fatal(err)
				}
			}
			w.hub = newHub(t, "hub", w.domain, w.engine.client("hub")).start()
			w.edge = newEdge(t, "edge", w.engine.client("edge")).start()
			equal(t, w.hub, w.edge)
			w.hub.stop()
			older := olderStream("corp")
			older.MaxMsgSize, older.DenyPurge = 1<<10, true // which cannot be taken back
			if _, err := js.UpdateStream(t.Context(), older); err != nil {
				t.Fatal(err)
			}
			before, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			generation, full := w.edge.client.Hub("corp").Generation, w.edge.mirror.Status().Full.Number
			w.hub.start()
			w.still("later")
			after, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c := after.Config
			if c.MaxConsumers != maxConsumers || c.MaxMsgSize != maxPayload+4096 {
				t.Errorf("%d consumers, messages of %d bytes", c.MaxConsumers, c.MaxMsgSize)
			}
			if got := c.ConsumerLimits.InactiveThreshold; got != inactiveAfter && !foreign {
				t.Errorf("consumers may be inactive for %v", got)
			}
			if !after.Created.Equal(before.Created) || after.State.Msgs < before.State.Msgs {
				t.Errorf("stream of %v with %d messages became one of %v with %d", before.Created, before.State.Msgs,
					after.Created, after.State.Msgs)
			}
			if w.edge.client.Hub("corp").Generation != generation || w.edge.mirror.Status().Full.Number != full {
				t.Error("the edge had to read everything again")
			}
		})
	}
}

// TestForeignSettings gives a stream settings with which a hub could read or forge the messages of others, or make
// the stream useless. They must be gone afterwards, and all messages must remain.
func TestForeignSettings(t *testing.T) {
	other := &jetstream.StreamSource{Name: streamName("other")}
	changes := map[string]func(*jetstream.StreamConfig){
		"republish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "stolen.>"}
		},
		"sources": func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{other} },
		"subject transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: c.Subjects[0],
				Destination: "stolen.{{wildcard(1)}}"}
		},
		"subjects":          func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "rcpt.third.>") },
		"no answers":        func(c *jetstream.StreamConfig) { c.NoAck = true },
		"direct reads":      func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"rollup":            func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"delete markers":    func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Second },
		"atomic batches":    func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true },
		"fast batches":      func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true },
		"few messages":      func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 },
		"few bytes":         func(c *jetstream.StreamConfig) { c.MaxBytes = 100 << 10 },
		"short age":         func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Minute },
		"history":           func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"rejects when full": func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardNew, 100<<10 },
		"rejects subjects": func(c *jetstream.StreamConfig) {
			c.Discard, c.DiscardNewPerSubject = jetstream.DiscardNew, true
		},
		"small messages": func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 10 },
		"interest":       func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"no deletion":    func(c *jetstream.StreamConfig) { c.DenyDelete = true },
		"schedules and republish": func(c *jetstream.StreamConfig) {
			c.AllowMsgSchedules, c.AllowRollup = true, true
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "stolen.>"}
		},
	}
	fixed := map[string][]string{ // the server cannot take these back, and no other host is affected
		"no deletion":             {"deny_delete"},
		"schedules and republish": {"allow_msg_schedules", "allow_rollup_hdrs", "deny_purge"},
	}
	js := newEngine(t, nil).admin()
	s := Streams{JS: js, Log: quiet()}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			want := objectStream("corp").StreamConfig
			want.DenyPurge = false // as in older versions
			made, err := js.CreateStream(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = js.DeleteStream(context.Background(), want.Name) }()
			if change(&want); want.Retention == jetstream.InterestPolicy { // keep the message
				if _, err := made.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "d"}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := js.UpdateStream(t.Context(), want); err != nil {
				if want.Retention == jetstream.InterestPolicy || want.AllowMsgSchedules {
					if err := js.DeleteStream(t.Context(), want.Name); err != nil {
						t.Fatal(err)
					}
					made, err = js.CreateStream(t.Context(), want)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			subject := objectSubject("corp", store.GUID{1})
			if !want.NoAck && want.SubjectTransform == nil {
				if _, err := js.Publish(t.Context(), subject, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			before, err := made.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Correct(t.Context()); err != nil {
				t.Fatal(err)
			}
			after, err := made.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if left := left(after.Config, objectStream("corp")); !slices.Equal(left, fixed[name]) {
				t.Errorf("settings %v differ, want %v", left, fixed[name])
			}
			if !after.Created.Equal(before.Created) || after.State.Msgs != before.State.Msgs {
				t.Errorf("stream of %v with %d messages became one of %v with %d", before.Created, before.State.Msgs,
					after.Created, after.State.Msgs)
			}
		})
	}
}

// left returns the settings of a stream that are not those of this version, without those that may differ.
func left(found jetstream.StreamConfig, want wanted) []string {
	want.Metadata, want.Duplicates, want.StreamConfig.Replicas = found.Metadata, found.Duplicates, 1
	return differences(found, want.StreamConfig)
}

// TestReadOnlyCopyBecomesStream promotes a copy of the stream of another directory, which takes no messages.
func TestReadOnlyCopyBecomesStream(t *testing.T) {
	js := newEngine(t, nil).admin()
	s := Streams{JS: js, Log: quiet()}
	if err := s.Ensure(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: streamName("corp"),
		Mirror: &jetstream.StreamSource{Name: streamName("other")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ensure(t.Context(), "corp", "other"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"corp", "other"} {
		ack, err := js.Publish(t.Context(), stateSubject(dir), []byte("x"))
		if err != nil || ack.Stream != streamName(dir) {
			t.Errorf("publishing to %s: %+v, %v", dir, ack, err)
		}
	}
	found, err := js.Stream(t.Context(), streamName("corp"))
	if err != nil {
		t.Fatal(err)
	}
	want := objectStream("corp")
	want.Description, want.Compression = "", jetstream.NoCompression // as they were
	if left := left(found.CachedInfo().Config, want); len(left) > 0 {
		t.Errorf("settings %v differ", left)
	}
}

// TestUselessStreams: a stream that takes no messages any more and cannot be corrected is replaced, unless it has
// the messages of a directory.
func TestUselessStreams(t *testing.T) {
	seal := func(c *jetstream.StreamConfig) { c.Sealed = true }
	queue := func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }
	counters := func(c *jetstream.StreamConfig) {
		c.AllowMsgCounter, c.AllowMsgTTL, c.Discard = true, false, jetstream.DiscardOld
	}
	schedules := func(c *jetstream.StreamConfig) {
		c.AllowMsgSchedules, c.AllowRollup, c.DenyPurge, c.Discard = true, true, false, jetstream.DiscardOld
	}
	for _, tt := range []struct {
		name     string
		want     wanted
		change   func(*jetstream.StreamConfig)
		replaced bool
	}{
		{"sealed leases", leasesOf(defaultLeaseTTL), seal, true},
		{"sealed reports", reportStream(), seal, true},
		{"sealed directory", objectStream("corp"), seal, false},
		{"reports as a queue", reportStream(), queue, true},
		{"directory as a queue", objectStream("corp"), queue, false},
		{"leases as counters", leasesOf(defaultLeaseTTL), counters, true},
		{"directory of counters", objectStream("corp"), counters, false},
		{"scheduled leases", leasesOf(defaultLeaseTTL), schedules, true},
		{"scheduled reports", reportStream(), schedules, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			js := newEngine(t, nil).admin()
			c := tt.want.StreamConfig
			if tt.name[:6] != "sealed" {
				tt.change(&c)
			}
			made, err := js.CreateStream(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if tt.change(&c); c.Sealed {
				if _, err := js.UpdateStream(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			before, err := made.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = Streams{JS: js, Log: quiet()}.Ensure(t.Context(), "corp")
			if (err == nil) != tt.replaced {
				t.Errorf("error %v", err)
			}
			after, err := made.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if after.Created.Equal(before.Created) == tt.replaced {
				t.Errorf("stream of %v became one of %v", before.Created, after.Created)
			}
			if left := left(after.Config, tt.want); tt.replaced && len(left) > 0 {
				t.Errorf("settings %v differ", left)
			}
		})
	}
}

// TestSettledStreams: settings that Ensure gave to a stream need no correction.
func TestSettledStreams(t *testing.T) {
	js := newEngine(t, nil).admin()
	log := &recordedLog{}
	s := Streams{JS: js, Log: slog.New(log)}
	for range 3 {
		if err := s.Ensure(t.Context(), "corp", "a.b"); err != nil {
			t.Fatal(err)
		}
		if err := s.Correct(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(log.lines) != 4 {
		t.Errorf("%d lines: %q", len(log.lines), log.lines)
	}
}

// recordedLog keeps the messages of a log.
type recordedLog struct {
	slog.Handler
	lines []string
}

func (l *recordedLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *recordedLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *recordedLog) Handle(_ context.Context, r slog.Record) error {
	l.lines = append(l.lines, r.Message)
	return nil
}

// TestAllSettingsAreCompared: a setting that the library does not know would be overlooked.
func TestAllSettingsAreCompared(t *testing.T) {
	names := func(of reflect.Type) (all []string) {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			all = append(all, name)
		}
		return all
	}
	known := names(reflect.TypeFor[jetstream.StreamConfig]())
	for _, name := range names(reflect.TypeFor[server.StreamConfig]()) {
		if !slices.Contains(known, name) {
			t.Errorf("the library does not know the setting %s of a stream", name)
		}
	}
}
