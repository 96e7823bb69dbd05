package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"rcpt-milter/config"
	"rcpt-milter/internal/text"
	"rcpt-milter/stream"
)

// streamTimeout limits the check of one stream.
const streamTimeout = 15 * time.Second

// checkStreams connects to the engine of each stream, and reads the state of each directory that comes from a
// stream. It skips an engine inside a daemon, because only that daemon can reach it.
func (l *liveCheck) checkStreams(ctx context.Context) {
	for _, d := range l.config.Directories {
		if d.Stream == nil || d.Stream.Embedded() {
			continue
		}
		hub, err := l.readStream(ctx, *d.Stream, d.Name)
		if err != nil {
			l.problem("stream", fmt.Errorf("directory %s: %w", d.Name, err))
			continue
		}
		l.good("stream", "directory %s: hub %s publishes it from %s; its last good pass was %s ago", d.Name, hub.Name,
			hub.Controller, text.Duration(hub.Age))
		if limit := l.config.LateAfter; limit > 0 && hub.Age > limit {
			l.warning("stream", "directory %s: hub %s is late; run rcpt-milter status there", d.Name, hub.Name)
		}
	}
	p := l.config.Publish
	if p == nil || p.Stream.Embedded() {
		return
	}
	client, err := l.connectStream(ctx, p.Stream)
	if err != nil {
		l.problem("publish", fmt.Errorf("publish: %w", err))
		return
	}
	defer client.Close()
	l.good("publish", "publish: connected to %s", client.Status().Server)
}

// readStream reads the newest state of a directory.
func (l *liveCheck) readStream(ctx context.Context, c config.Stream, directory string) (stream.Hub, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	client, err := l.connectStream(ctx, c)
	if err != nil {
		return stream.Hub{}, err
	}
	defer client.Close()
	source, err := client.Source(directory, stream.SourceOptions{Timeout: streamTimeout,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return stream.Hub{}, err
	}
	defer source.Close()
	if _, err := source.Root(ctx); err != nil {
		return stream.Hub{}, err
	}
	return client.Hub(directory), nil
}

// connectStream connects to an engine and waits for the connection.
func (l *liveCheck) connectStream(ctx context.Context, c config.Stream) (*stream.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	at, err := linkConfig(c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	client, err := stream.Connect(at)
	if err != nil {
		return nil, err
	}
	if err := waitConnected(ctx, client); err != nil {
		client.Close()
		return nil, fmt.Errorf("cannot connect to %s: %w", streamText(c), err)
	}
	return client, nil
}
