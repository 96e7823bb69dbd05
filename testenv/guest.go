package testenv

import "context"

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
