package testenv

import (
	"context"
	"os"
)

// CopyIn puts a file, or a directory with what is in it, from this machine into a
// directory of a service's container.
func (h *Harness) CopyIn(ctx context.Context, service, from, dir string) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	_, err = h.engine.docker(ctx, "cp", from, id+":"+dir)
	return err
}

// Docker runs the docker command, for a container that Compose knows nothing of, and gives
// what it printed.
func (h *Harness) Docker(ctx context.Context, args ...string) (string, error) {
	return h.engine.docker(ctx, args...)
}

// Names of this harness with the engine: of its own kind of container, image or volume that
// a test makes, and of its network.
func (h *Harness) Name(what string) string { return h.engine.project + "_" + what }

// Network see Name.
func (h *Harness) Network() string { return h.network() }

// BuildArgs are the arguments with which `docker build` reaches Debian's archive from here.
func BuildArgs(ctx context.Context) []string { return buildArgs(aptSettings(ctx), os.Environ()) }
