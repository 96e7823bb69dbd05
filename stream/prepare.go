package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rcpt-milter/directory"
)

// EngineName is the name of an engine that a daemon runs: of its server, or of its cluster. Such an engine creates
// the streams itself, and does not permit hubs to do so.
const EngineName = "rcpt-milter"

// tombstoneTTL is the retention of the message of an object without addresses. A follower reads everything
// again if its last read is more than 7 days ago.
const tombstoneTTL = 30 * 24 * time.Hour

// Limits of the stream of edge reports.
const (
	reportMax  = 8 << 10 // bytes of one report
	reportKeep = 30 * 24 * time.Hour
)

// Limits of the bucket of leases. One hub must not be able to fill it.
const (
	leaseMax  = 4 << 10 // bytes of one lease
	leasesMax = 4 << 20 // bytes of all leases
)

// maxConsumers limits the memory that edges can make the engine use. An edge needs two consumers per directory.
// Those of a lost connection stay for inactiveAfter.
const maxConsumers = 20_000

// wanted is a stream as it should be.
type wanted struct {
	jetstream.StreamConfig
	disposable bool // its messages are published again within minutes, so it may be replaced
}

// objectStream returns the stream of a directory. Like the other streams it denies purges, because a member can make
// the engine purge a stream: an answer to the member can be a request of its own. See [Permissions].
func objectStream(dir string) wanted {
	return wanted{StreamConfig: jetstream.StreamConfig{Name: streamName(dir), Description: "addresses of " + dir,
		Subjects: []string{allObjects(dir), stateSubject(dir)}, Storage: jetstream.FileStorage,
		Compression: jetstream.S2Compression, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardOld,
		MaxMsgSize: maxPayload + 4096, AllowMsgTTL: true, MaxConsumers: maxConsumers, DenyPurge: true,
		ConsumerLimits: jetstream.StreamConsumerLimits{InactiveThreshold: inactiveAfter}}}
}

// reportStream returns the stream of edge reports.
func reportStream() wanted {
	return wanted{StreamConfig: jetstream.StreamConfig{Name: edgesStream, Description: "last reports of edges",
		Subjects: []string{edgesSubjects}, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1,
		MaxMsgSize: reportMax, MaxAge: reportKeep, Discard: jetstream.DiscardOld, DenyPurge: true}, disposable: true}
}

// leasesOf returns the stream of the bucket of leases. Unlike other buckets, it permits no rollup, with which one
// hub could remove the leases of all others, and no direct reads, whose answers could be sent to other subjects.
func leasesOf(ttl time.Duration) wanted {
	return wanted{StreamConfig: jetstream.StreamConfig{Name: leaseStream,
		Description: "which hub publishes a directory", Subjects: []string{"$KV." + leaseBucket + ".>"},
		Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1,
		MaxMsgSize: leaseMax, MaxBytes: leasesMax, MaxAge: ttl, Duplicates: min(ttl, 2*time.Minute),
		Discard: jetstream.DiscardNew, DenyDelete: true, DenyPurge: true}, disposable: true}
}

// Streams creates and corrects the streams of a NATS server: those of the directories, the stream of edge reports,
// and the bucket of leases. The engine does this for its hubs. A hub does it for an engine in its own process, and
// at a NATS server that no daemon runs.
type Streams struct {
	JS       jetstream.JetStream
	Replicas []int         // numbers of replicas to try, in order; empty means 3, and then 1
	Raise    bool          // give streams with fewer replicas the first number of Replicas
	LeaseTTL time.Duration // 0 means 15 seconds
	Log      *slog.Logger  // required
	// Delete deletes a stream. Nil means a request over JS, which an engine of a daemon denies.
	Delete func(ctx context.Context, name string) error
}

// Ensure creates what the hubs of these directories need, and corrects what exists. It loses no message of a
// directory.
func (s Streams) Ensure(ctx context.Context, directories ...string) error {
	return s.each(ctx, s.wanted(directories), true)
}

// wanted returns the streams that the hubs of these directories need.
func (s Streams) wanted(directories []string) []wanted {
	all := []wanted{leasesOf(cmp.Or(s.LeaseTTL, defaultLeaseTTL)), reportStream()}
	for _, dir := range directories {
		all = append(all, objectStream(dir))
	}
	return all
}

// Missing reports whether one of the streams that Ensure creates does not exist.
func (s Streams) Missing(ctx context.Context, directories ...string) (bool, error) {
	names, err := s.names(ctx)
	for _, one := range s.wanted(directories) {
		if !slices.Contains(names, one.Name) {
			return true, err
		}
	}
	return false, err
}

// names returns the names of all streams.
func (s Streams) names(ctx context.Context) (all []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	list := s.JS.StreamNames(ctx)
	for name := range list.Name() {
		all = append(all, name)
	}
	return all, explain(list.Err())
}

// Correct corrects all streams that exist, also of directories that no hub publishes any more.
func (s Streams) Correct(ctx context.Context) error {
	names, err := s.names(ctx)
	if err != nil {
		return err
	}
	var all []wanted
	for _, name := range names {
		dir, isDirectory := strings.CutPrefix(name, streamName(""))
		switch {
		case isDirectory:
			all = append(all, objectStream(directoryOf(dir)))
		case name == edgesStream:
			all = append(all, reportStream())
		case name == leaseStream:
			all = append(all, leasesOf(cmp.Or(s.LeaseTTL, defaultLeaseTTL)))
		}
	}
	return s.each(ctx, all, false)
}

// each ensures several streams. It continues after an error, unless the server does not answer.
func (s Streams) each(ctx context.Context, all []wanted, create bool) (failed error) {
	for _, one := range all {
		err := s.ensure(ctx, one, create)
		if errors.Is(err, directory.ErrTimeout) {
			return err
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("stream %s: %w", one.Name, err))
		}
	}
	return failed
}

// ensure corrects a stream. If the stream is missing, ensure creates it if create is set.
func (s Streams) ensure(ctx context.Context, want wanted, create bool) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	asking, asked := context.WithTimeout(ctx, answerTimeout)
	found, err := s.JS.Stream(asking, want.Name)
	asked()
	if err == nil {
		return s.fit(ctx, found.CachedInfo().Config, want)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(err)
	}
	if !create {
		return nil
	}
	return s.create(ctx, want)
}

// create creates a stream. It does nothing if another program has created it meanwhile.
func (s Streams) create(ctx context.Context, want wanted) (err error) {
	replicas := s.Replicas
	if len(replicas) == 0 {
		replicas = []int{3, 1}
	}
	for _, want.StreamConfig.Replicas = range replicas {
		if _, err = s.JS.CreateStream(ctx, want.StreamConfig); err == nil {
			s.Log.Info("stream created", "stream", want.Name, "replicas", want.StreamConfig.Replicas)
			return nil
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil
		}
	}
	return explain(err)
}

// fit corrects a stream, or replaces it if it cannot be corrected and is disposable.
func (s Streams) fit(ctx context.Context, found jetstream.StreamConfig, want wanted) error {
	why := unfit(found, want.disposable)
	switch {
	case why == "":
		return explain(cmp.Or(s.correct(ctx, found, want.StreamConfig), s.RaiseReplicas(ctx, want.Name)))
	case !want.disposable:
		return unusable("the stream takes no messages of hubs, because "+why+"; stop the engine at all nodes, remove "+
			"the directory streams in nats.dir, and start it, so hubs publish everything again", nil)
	}
	s.Log.Warn("stream cannot be corrected; replacing it", "stream", want.Name, "because", why)
	remove := s.Delete
	if remove == nil {
		remove = s.JS.DeleteStream
	}
	if err := remove(ctx, want.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(err)
	}
	return s.create(ctx, want)
}

// unfit returns why no correction makes a stream usable, or an empty string. With schedules, an edge or a hub could
// write the messages of others in a stream that it shares with them.
func unfit(found jetstream.StreamConfig, shared bool) string {
	switch {
	case found.Sealed:
		return "it is sealed"
	case found.AllowMsgCounter:
		return "it takes only counters"
	case found.Retention == jetstream.WorkQueuePolicy:
		return "it is a work queue"
	case found.AllowMsgSchedules && shared:
		return "it permits schedules"
	}
	return ""
}

// correct applies the wanted settings to a stream, after another program changed them or after an upgrade. It
// loses no message. Limits of consumers are optional: the engine rejects them while a consumer of another
// program exceeds them, and older engines ignore them.
func (s Streams) correct(ctx context.Context, found, want jetstream.StreamConfig) error {
	want = withFixed(found, want)
	log := s.Log.With("stream", want.Name)
	var err error
	for _, leave := range []func(){
		func() {},
		func() { want.ConsumerLimits = found.ConsumerLimits },
		func() { want.MaxConsumers = found.MaxConsumers },
	} {
		leave()
		differing := differences(found, want)
		if len(differing) == 0 {
			return nil
		}
		if _, err = s.JS.UpdateStream(ctx, want); err == nil {
			log.Warn("settings of the stream differ from those of this version; correcting them", "settings", differing)
			return nil
		}
		if api := new(jetstream.APIError); !errors.As(err, &api) {
			return err
		}
		log.Warn("the engine rejects settings of the stream", "settings", differing, "error", err)
	}
	return err
}

// RaiseReplicas gives a stream the wanted number of replicas if it has fewer and Raise is set. A stream has fewer if it
// was created while the cluster was smaller, or while nodes did not run. It does nothing as long as the engine has too
// few nodes; the next call tries again.
func (s Streams) RaiseReplicas(ctx context.Context, name string) error {
	if !s.Raise || len(s.Replicas) == 0 {
		return nil
	}
	found, err := s.JS.Stream(ctx, name)
	if err != nil {
		return err
	}
	c := found.CachedInfo().Config // as corrected
	if c.Replicas >= s.Replicas[0] {
		return nil
	}
	former := c.Replicas
	c.Replicas = s.Replicas[0]
	_, err = s.JS.UpdateStream(ctx, c)
	if api := new(jetstream.APIError); errors.As(err, &api) {
		s.Log.Debug("cannot give a stream more replicas yet", "stream", name, "replicas", former, "error", err)
		return nil
	}
	if err == nil {
		s.Log.Info("stream has more replicas", "stream", name, "replicas", c.Replicas, "former", former)
	}
	return err
}

// withFixed returns the wanted settings with those of found that the operator may choose, that cannot be changed,
// or that change no message.
func withFixed(found, want jetstream.StreamConfig) jetstream.StreamConfig {
	want.Description, want.Metadata, want.Template = found.Description, found.Metadata, found.Template
	want.Replicas, want.Placement = found.Replicas, found.Placement
	want.Storage, want.Compression, want.PersistMode = found.Storage, found.Compression, found.PersistMode
	want.FirstSeq, want.Duplicates = found.FirstSeq, found.Duplicates
	want.DenyDelete = want.DenyDelete || found.DenyDelete
	want.AllowMsgTTL = want.AllowMsgTTL || found.AllowMsgTTL
	if found.AllowMsgSchedules { // a hub that uses them writes to its own stream only
		want.AllowMsgSchedules, want.AllowRollup = true, true
		want.DenyPurge = false // excludes rollups
	}
	if found.Mirror != nil || want.MaxAge > 0 && want.Duplicates > want.MaxAge {
		want.Duplicates = 0 // the default
	}
	return want
}

// differences returns the names of the settings that differ. Servers return -1 for most limits that are not set.
func differences(a, b jetstream.StreamConfig) (names []string) {
	for _, c := range []*jetstream.StreamConfig{&a, &b} {
		c.MaxMsgs, c.MaxBytes, c.MaxMsgsPerSubject = max(c.MaxMsgs, 0), max(c.MaxBytes, 0), max(c.MaxMsgsPerSubject, 0)
		c.MaxMsgSize, c.MaxConsumers = max(c.MaxMsgSize, 0), max(c.MaxConsumers, 0)
		if len(c.Sources) == 0 {
			c.Sources = nil
		}
		if len(c.Metadata) == 0 {
			c.Metadata = nil
		}
	}
	left, right := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range left.NumField() {
		if !reflect.DeepEqual(left.Field(i).Interface(), right.Field(i).Interface()) {
			name, _, _ := strings.Cut(left.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// prepare creates and corrects the streams that this hub needs.
func (p *Publisher) prepare(ctx context.Context, js jetstream.JetStream) error {
	s := Streams{JS: js, LeaseTTL: p.config.LeaseTTL, Log: p.config.Log}
	if p.config.Replicas > 0 {
		s.Replicas = []int{p.config.Replicas}
	}
	return s.Ensure(ctx, p.config.Directory)
}

// errNotCreated reports that the engine lacks a stream that it creates itself.
var errNotCreated = errors.New("the engine has not created the streams of this directory yet; check there that this " +
	"hub is enrolled for the directory (rcpt-milter edge list), and that the engine has at least the version of " +
	"this hub")

// awaitStream returns an error unless the engine has created the stream of the directory.
func (p *Publisher) awaitStream(ctx context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := js.Stream(ctx, streamName(p.config.Directory))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return &kindError{directory.ErrRefused, errNotCreated.Error(), err}
	}
	// The engine does not answer a request that it denies, but reports the denial beside it.
	if last := p.config.Client.Status().LastError; errors.Is(err, context.DeadlineExceeded) &&
		errors.Is(last, nats.ErrPermissionViolation) {
		return &kindError{directory.ErrRefused, "this hub is not enrolled for the directory", last}
	}
	return explain(err)
}
