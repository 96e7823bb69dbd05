package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Edge is one edge of a fleet: the services of its daemon and its Postfix. Both are in a network
// from which dc1 cannot be reached.
type Edge struct{ Daemon, MX string }

// Edges returns the edges of the fleet.
func Edges() []Edge { return []Edge{{"edge1", "mx1"}, {"edge2", "mx2"}} }

// PortEngine is the port of the engine at the hub.
const PortEngine = 4222

// hubConfig is what a hub with an engine adds to the configuration; see docs/fleet.md.
const hubConfig = `nats:
  listen: inet:0.0.0.0:4222
  urls: [tls://hub.corp.example:4222]
publish: {}
`

// fleetDeadline limits the start of a fleet, without its enrolment.
const fleetDeadline = 2 * time.Minute

// StartFleet starts a hub that follows dc1 and runs an engine, and the Postfix of each edge. Enrol
// starts the daemons of the edges. The fleet stays until RemoveFleet or until the harness is taken
// down; StartFleet removes an earlier one first.
func (h *Harness) StartFleet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fleetDeadline)
	defer cancel()
	if err := h.RemoveFleet(ctx); err != nil {
		return err
	}
	daemons, started := []string{Hub}, []string{Hub}
	for _, e := range Edges() {
		daemons, started = append(daemons, e.Daemon), append(started, e.MX)
	}
	create := append([]string{"up", "--no-start", "--no-build", "--no-deps"}, daemons...)
	if _, err := mustRun(ctx, h.engine.composeCommand(ctx, create...)); err != nil {
		return err
	}
	text, err := h.DefaultConfig()
	if err != nil {
		return err
	}
	if err := h.WriteFile(ctx, Hub, ConfigFile, Overlay(hubConfig)(text)); err != nil {
		return err
	}
	start := append([]string{"up", "--detach", "--no-build", "--no-deps", "--no-recreate"}, started...)
	if _, err := mustRun(ctx, h.engine.composeCommand(ctx, start...)); err != nil {
		return err
	}
	return h.AwaitHealthy(ctx, started...)
}

// RemoveFleet removes the hub and the edges with their volumes, if there are any.
func (h *Harness) RemoveFleet(ctx context.Context) error {
	services, volumes := fleetParts()
	list := []string{"ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=" + h.engine.project}
	var ids []string
	for _, service := range services {
		out, err := h.engine.docker(ctx, append(list, "--filter", "label=com.docker.compose.service="+service)...)
		if err != nil {
			return err
		}
		ids = append(ids, strings.Fields(out)...)
	}
	if len(ids) > 0 {
		if _, err := h.engine.docker(ctx, append([]string{"rm", "--force"}, ids...)...); err != nil {
			return err
		}
	}
	for i, volume := range volumes {
		volumes[i] = h.engine.project + "_" + volume
	}
	_, err := h.engine.docker(ctx, append([]string{"volume", "rm", "--force"}, volumes...)...)
	return err
}

// fleetParts returns the services and the volumes of docker-compose.yml that only the fleet uses.
func fleetParts() (services, volumes []string) {
	services, volumes = []string{Hub}, []string{Hub}
	for _, e := range Edges() {
		services = append(services, e.Daemon, e.MX)
		volumes = append(volumes, e.Daemon+"-etc", e.Daemon+"-milter", e.Daemon+"-store")
	}
	return services, volumes
}

// Step is a command of an operator and its output.
type Step struct {
	Service, Command, Output string
}

// Enrol enrols an edge as docs/fleet.md describes: `edge add` at the hub, a copy of the file, `edge
// join` at the edge. It merges the output of `edge join` into the configuration, applies the edits to
// the result, and starts the daemon of the edge without waiting for it.
func (h *Harness) Enrol(ctx context.Context, e Edge, edits ...func(string) string) ([]Step, error) {
	name := e.Daemon + ".enrol"
	add, err := h.step(ctx, Hub, "edge", "add", e.Daemon, "--output", path.Join("/run/rcpt-milter", name))
	if err != nil {
		return nil, err
	}
	content, err := h.ReadFile(ctx, Hub, path.Join("/run/rcpt-milter", name))
	if err != nil {
		return nil, err
	}
	file := path.Join(path.Dir(ConfigFile), name)
	if err := h.WriteFile(ctx, e.Daemon, file, content); err != nil {
		return nil, err
	}
	join, err := h.joinStopped(ctx, e, file)
	if err != nil {
		return nil, err
	}
	text, err := h.DefaultConfig()
	if err != nil {
		return nil, err
	}
	for _, edit := range append([]func(string) string{Overlay(join.Output)}, edits...) {
		text = edit(text)
	}
	if err := h.WriteFile(ctx, e.Daemon, ConfigFile, text); err != nil {
		return nil, err
	}
	return []Step{add, join}, h.StartOnly(ctx, e.Daemon)
}

// step runs the rcpt-milter command line in a service's container. A non-zero status is an error.
func (h *Harness) step(ctx context.Context, service string, args ...string) (Step, error) {
	command := "rcpt-milter " + strings.Join(args, " ")
	out, err := h.Exec(ctx, service, append([]string{"rcpt-milter"}, args...)...)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s: %s: exit status %d: %s", service, command, out.Status,
			lastLines(out.Stdout+out.Stderr, 5))
	}
	return Step{Service: service, Command: command, Output: out.Stdout + out.Stderr}, err
}

// joinStopped runs `edge join` at an edge whose daemon does not run yet: another container of the
// same image, in the same network, uses its volumes.
func (h *Harness) joinStopped(ctx context.Context, e Edge, file string) (Step, error) {
	id, err := h.engine.container(ctx, e.Daemon)
	if err != nil {
		return Step{}, err
	}
	image, err := h.engine.inspect(ctx, id, "{{.Image}}")
	if err != nil {
		return Step{}, err
	}
	out, err := h.engine.docker(ctx, "run", "--rm", "--volumes-from", id, "--network", h.Name("dmz"), image,
		"rcpt-milter", "edge", "join", file)
	return Step{Service: e.Daemon, Command: "rcpt-milter edge join " + file, Output: out}, err
}

// reachTimeout limits one TCP connect of Reaches.
const reachTimeout = 3 * time.Second

// Reaches reports whether a service's container can open a TCP connection to a port of another
// service, by the address of that service in the network of dc1.
func (h *Harness) Reaches(ctx context.Context, from, to string, port int) (bool, error) {
	id, err := h.engine.container(ctx, to)
	if err != nil {
		return false, err
	}
	address, err := h.engine.inspect(ctx, id,
		fmt.Sprintf("{{with index .NetworkSettings.Networks %q}}{{.IPAddress}}{{end}}", h.network()))
	if err != nil {
		return false, err
	}
	if address == "" {
		return false, fmt.Errorf("service %s is not in the network of dc1", to)
	}
	return h.connects(ctx, from, address, port)
}

// connects reports whether a service's container can open a TCP connection.
func (h *Harness) connects(ctx context.Context, from, host string, port int) (bool, error) {
	out, err := h.Exec(ctx, from, "timeout", strconv.Itoa(int(reachTimeout.Seconds())),
		"bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", host, port))
	switch {
	case err != nil:
		return false, err
	case out.Status == 0:
		return true, nil
	case out.Status == 1 || out.Status == 124: // refused or unknown host; timeout
		return false, nil
	}
	return false, fmt.Errorf("%s: connect to %s: exit status %d: %s", from, host, out.Status, out.Stderr)
}

// ReachesEngine reports whether an edge can open a TCP connection to the engine at the hub.
func (h *Harness) ReachesEngine(ctx context.Context, e Edge) (bool, error) {
	return h.connects(ctx, e.Daemon, HostOf(Hub), PortEngine)
}

// fleetRow is the part of a row of `rcpt-milter fleet status --json` that AwaitFleet uses.
type fleetRow struct {
	Name     string    `json:"name"`
	DigestOK bool      `json:"digest_ok"`
	Reported time.Time `json:"reported"`
}

// AwaitFleet waits until `fleet status` at the hub reports each edge as fresh and equal to the hub,
// from a report that is later than the call, and until all of them have the same digest.
func (h *Harness) AwaitFleet(ctx context.Context) error {
	began := time.Now()
	return AwaitNil(ctx, healthPoll, func(ctx context.Context) error {
		out, err := h.Exec(ctx, Hub, "rcpt-milter", "fleet", "status", "--json")
		if err != nil {
			return err
		}
		var status struct {
			Edges []fleetRow `json:"edges"`
		}
		if err := json.Unmarshal([]byte(out.Stdout), &status); err != nil {
			return fmt.Errorf("fleet status --json: %w: %s", err, lastLines(out.Stderr, 3))
		}
		if out.Status != 0 || len(status.Edges) != len(Edges()) {
			return fmt.Errorf("fleet status: exit status %d: %s", out.Status, out.Stdout)
		}
		for _, row := range status.Edges {
			if !row.DigestOK || row.Reported.Before(began) {
				return fmt.Errorf("%s has not reported an equal index since %v: %+v", row.Name, began, row)
			}
		}
		return h.equalDigests(ctx)
	})
}

// equalDigests returns an error unless the hub and all edges have the same digest of their index.
func (h *Harness) equalDigests(ctx context.Context) error {
	hub, err := h.StatusAt(ctx, Hub)
	if err != nil {
		return err
	}
	for _, e := range Edges() {
		edge, err := h.StatusAt(ctx, e.Daemon)
		if err != nil {
			return err
		}
		if hub.Digest == "" || edge.Digest != hub.Digest {
			return fmt.Errorf("digest of %s is %q, that of the hub %q", e.Daemon, edge.Digest, hub.Digest)
		}
	}
	return nil
}
