package testenv

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
)

// CopyTool copies the program from the daemon's container into another one, such as that of
// Postfix.
func (h *Harness) CopyTool(ctx context.Context, service, name string) error {
	from, err := h.engine.container(ctx, Milter)
	if err != nil {
		return err
	}
	to, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	out := exec.CommandContext(ctx, "docker", "cp", from+":/usr/bin/rcpt-milter", "-")
	var archive, trouble bytes.Buffer
	out.Stdout, out.Stderr = &archive, &trouble
	if err := out.Run(); err != nil {
		return fmt.Errorf("docker cp: %w: %s", err, &trouble)
	}
	in := exec.CommandContext(ctx, "docker", "cp", "-", to+":"+path.Dir(name))
	in.Stdin = &archive
	_, err = mustRun(ctx, in)
	return err
}
