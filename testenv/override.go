package testenv

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// overrideFile is the file of Override below .testenv.
const overrideFile = "override.yml"

// Override creates a service again, with more Compose text than docker-compose.yml has, and does not
// start it. The text may add services to start beside it; companions names them. RemoveOverride
// restores the service. Taking the harness down removes everything but the volumes of the text.
func (h *Harness) Override(ctx context.Context, text, service string, companions ...string) error {
	path, err := checkout(h.engine.dir).statePath(overrideFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	if err := h.Leave(ctx, service); err != nil {
		return err
	}
	if len(companions) > 0 {
		up := append([]string{"up", "--detach", "--no-build", "--no-deps"}, companions...)
		if _, err := mustRun(ctx, h.engine.composeCommandWith(ctx, path, up...)); err != nil {
			return err
		}
	}
	_, err = mustRun(ctx, h.engine.composeCommandWith(ctx, path, "up", "--no-start", "--no-build", "--no-deps",
		service))
	return err
}

// RemoveOverride removes what Override made, also the volumes, and starts the service as
// docker-compose.yml describes it. Without an Override it does nothing.
func (h *Harness) RemoveOverride(ctx context.Context, service string, companions, volumes []string) error {
	path, err := checkout(h.engine.dir).statePath(overrideFile)
	if err != nil {
		return err
	}
	if !exists(path) {
		return nil
	}
	remove := append([]string{"rm", "--stop", "--force"}, append(slices.Clone(companions), service)...)
	if _, err := mustRun(ctx, h.engine.composeCommandWith(ctx, path, remove...)); err != nil {
		return err
	}
	for _, volume := range volumes {
		if _, err := h.engine.docker(ctx, "volume", "rm", "--force", h.Name(volume)); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return h.Join(ctx, service)
}

// Gateway returns the address of this machine in the network of the harness, where containers reach
// what listens on it.
func (h *Harness) Gateway(ctx context.Context) (string, error) {
	out, err := h.engine.docker(ctx, "network", "inspect", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}",
		h.network())
	if err != nil {
		return "", err
	}
	addresses := strings.Fields(out)
	if len(addresses) == 0 {
		return "", fmt.Errorf("network %s has no gateway", h.network())
	}
	return addresses[0], nil
}

// ImageOf returns the image of a service's container.
func (h *Harness) ImageOf(ctx context.Context, service string) (string, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", err
	}
	return h.engine.inspect(ctx, id, "{{.Config.Image}}")
}
