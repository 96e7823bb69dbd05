package testenv

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
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

// CopyTool copies the program from the daemon's container into another one, such as that of
// Postfix.
func (h *Harness) CopyTool(ctx context.Context, service, name string) error {
	from, err := h.engine.container(ctx, Milter)
	if err != nil {
		return err
	}
	archive, err := h.engine.docker(ctx, "cp", from+":/usr/bin/rcpt-milter", "-")
	if err != nil {
		return err
	}
	return h.copyArchive(ctx, service, path.Dir(name), strings.NewReader(archive))
}

// copyArchive unpacks a tar archive into a directory of a service's container, running or not.
func (h *Harness) copyArchive(ctx context.Context, service, dir string, archive io.Reader) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker", "cp", "-", id+":"+dir)
	cmd.Stdin = archive
	_, err = mustRun(ctx, cmd)
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
