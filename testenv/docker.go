package testenv

import (
	"context"
	"os"
)

// CopyIn copies a file, or a directory with its content, from this machine into a directory of a
// service's container.
func (h *Harness) CopyIn(ctx context.Context, service, from, dir string) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	_, err = h.engine.docker(ctx, "cp", from, id+":"+dir)
	return err
}

// Docker runs the docker command, for a container outside Compose, and returns its output.
func (h *Harness) Docker(ctx context.Context, args ...string) (string, error) {
	return h.engine.docker(ctx, args...)
}

// Name returns a name of this harness for a container, image or volume that a test makes.
func (h *Harness) Name(what string) string { return h.engine.project + "_" + what }

// Network returns the name of the network of this harness.
func (h *Harness) Network() string { return h.network() }

// BuildArgs returns the arguments with which `docker build` reaches Debian's archive.
func BuildArgs(ctx context.Context) []string { return buildArgs(aptSettings(ctx), os.Environ()) }
