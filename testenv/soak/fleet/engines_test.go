package fleet

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"rcpt-milter/stream"
	"rcpt-milter/stream/engine"
)

// newEmbedded starts a cluster of engines, each in a daemon of its own, and enrols hubs and edges.
func (w *world) newEmbedded() {
	w.t.Helper()
	n := w.newNodes()
	for i := range engines {
		name, tls := engineName(i), ""
		if i > 0 {
			tls = fmt.Sprintf(", tls: {cert_file: %[1]s, key_file: %[1]s, ca_file: %[1]s}",
				w.enrol(w.engines[0], name, "--node"))
		}
		h := newDaemon(w.t, w.dir, name, fmt.Sprintf(`domains: {corp.example: pass}
directories: []
nats:
  {listen: 'inet:%s', urls: %s, dir: %s/nats, max_disk: 1GiB%s,
   cluster: {node: %s, listen: 'inet:%s', routes: %s}}
`, n.clients[i], urls("tls", n.clients), filepath.Join(w.dir, name), tls, name, n.cluster[i], urls("tls", n.routes[i])))
		h.write("address", n.clients[i])
		w.engines = append(w.engines, h)
		w.run(h)
	}
	w.must(await(w.t.Context(), patience, func(ctx context.Context) error {
		for _, h := range w.engines {
			if s, err := h.status(ctx); err != nil || s.Engine == nil || !s.Engine.Ready || s.Engine.Peers < engines-1 {
				return fmt.Errorf("engine %s is not ready: %+v, %w", h.name, s.Engine, err)
			}
		}
		return nil
	}))
	for i := range hubs {
		w.enrol(w.engines[i], fmt.Sprintf("hub%d", i+1), "--hub", "--directory", "corp")
	}
	for i := range edges {
		w.enrol(w.engines[2-i], fmt.Sprintf("mx%d", i+1), "--directory", "corp")
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// enrol runs edge add at an engine that may still start, and returns the file.
func (w *world) enrol(at *host, name string, args ...string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name+".enrol")
	w.must(await(w.t.Context(), patience, func(ctx context.Context) error {
		_, err := at.command(ctx, append([]string{"edge", "add", name, "--output", file}, args...)...)
		return err
	}))
	return file
}

// newExternal starts a cluster of NATS servers that the program knows nothing of. They allow each hub
// and edge the subjects of its role.
func (w *world) newExternal() {
	w.t.Helper()
	var users []string
	for i := range hubs {
		users = append(users, w.user(fmt.Sprintf("hub%d", i+1), stream.HubRole))
	}
	for i := range edges {
		users = append(users, w.user(fmt.Sprintf("mx%d", i+1), stream.EdgeRole))
	}
	n := w.newNodes()
	for i := range engines {
		h := &host{t: w.t, name: engineName(i), dir: filepath.Join(w.dir, engineName(i)), program: os.Args[0]}
		w.must(os.MkdirAll(h.dir, 0o700))
		h.write("address", n.clients[i])
		file := h.write("nats.conf", fmt.Sprintf(`server_name: %s
listen: %q
jetstream: {store_dir: %q}
cluster: {name: fleet, listen: %q, no_advertise: true, routes: [%s]}
authorization: {users: [
%s
]}
`, h.name, n.clients[i], filepath.Join(h.dir, "nats"), n.cluster[i], quoted("nats://", n.routes[i]),
			strings.Join(users, "\n")))
		h.env = []string{asNATSServer + "=" + file}
		w.engines = append(w.engines, h)
		w.run(h)
	}
	w.must(await(w.t.Context(), patience, func(ctx context.Context) error {
		for _, address := range n.clients {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			c.Close()
		}
		return nil
	}))
}

func quoted(prefix string, list []string) string {
	var all []string
	for _, one := range list {
		all = append(all, fmt.Sprintf("%q", prefix+one))
	}
	return strings.Join(all, ", ")
}

// user writes the enrolment file of a host, and returns its row in the configuration of a NATS server.
func (w *world) user(name string, role stream.Role) string {
	w.t.Helper()
	pair, err := nkeys.CreateUser()
	w.must(err)
	key, err := pair.PublicKey()
	w.must(err)
	seed, err := pair.Seed()
	w.must(err)
	file := engine.Enrolment{Name: name, Role: engine.Role(role), URLs: []string{"tls://127.0.0.1:4222"},
		Directories: []string{"corp"}, Seed: string(seed), CA: w.servers[0].CA()}.File()
	w.must(os.WriteFile(filepath.Join(w.dir, name+".enrol"), file, 0o600))
	p := stream.Permissions(role, name, []string{"corp"})
	if role == stream.HubRole {
		p.Publish = append(p.Publish, stream.CreatePermissions([]string{"corp"})...)
	}
	return fmt.Sprintf("  {nkey: %s, permissions: {publish: [%s], subscribe: [%s]}}", key, quoted("", p.Publish),
		quoted("", p.Subscribe))
}
