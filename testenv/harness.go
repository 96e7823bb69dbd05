package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"
)

// Harness is a running harness. One test at a time may use its methods.
type Harness struct {
	engine     *engine
	images     []image
	configPath string // path of the daemon's configuration in the tree
}

// healthPoll is the interval between health checks of a container; the engine does not report
// changes by itself.
const healthPoll = 200 * time.Millisecond

// Exec runs a command inside a service's container, as the account of the image.
func (h *Harness) Exec(ctx context.Context, service string, argv ...string) (Output, error) {
	return h.exec(ctx, service, nil, "", argv...)
}

// ExecInput is Exec with text on standard input, as root.
func (h *Harness) ExecInput(ctx context.Context, service, input string, argv ...string) (Output, error) {
	return h.exec(ctx, service, []string{"--user", "root", "--interactive"}, input, argv...)
}

func (h *Harness) exec(
	ctx context.Context, service string, options []string, input string, argv ...string,
) (Output, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return Output{}, err
	}
	args := append([]string{"exec"}, options...)
	cmd := exec.CommandContext(ctx, "docker", append(append(args, id), argv...)...)
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	return run(ctx, cmd)
}

// RunMilter runs the rcpt-milter command line inside the daemon's container.
func (h *Harness) RunMilter(ctx context.Context, args ...string) (Output, error) {
	return h.Exec(ctx, Milter, append([]string{"rcpt-milter"}, args...)...)
}

// Address returns the address of a service's port on this machine. It changes at every start of
// the container.
func (h *Harness) Address(ctx context.Context, service string, port int) (string, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", err
	}
	out, err := h.engine.docker(ctx, "port", id, fmt.Sprintf("%d/tcp", port))
	if err != nil {
		return "", err
	}
	address, _, _ := strings.Cut(out, "\n")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", fmt.Errorf("port %d of %s: %w", port, service, err)
	}
	return address, nil
}

// InternalAddress returns the address of a service in the harness's network, which this machine
// reaches without a proxy.
func (h *Harness) InternalAddress(ctx context.Context, service string) (string, error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", err
	}
	out, err := h.engine.inspect(ctx, id, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")
	if err != nil {
		return "", err
	}
	addresses := strings.Fields(out)
	if len(addresses) == 0 {
		return "", fmt.Errorf("service %s has no address", service)
	}
	return addresses[0], nil
}

// Join starts an optional service and returns when it is healthy. Leave removes it. The error
// wraps ErrNoImages if its image is not built.
func (h *Harness) Join(ctx context.Context, service string) error {
	if err := h.JoinOnly(ctx, service); err != nil {
		return err
	}
	return h.AwaitHealthy(ctx, service)
}

// JoinOnly is Join without waiting, for a service that cannot be healthy yet.
func (h *Harness) JoinOnly(ctx context.Context, service string) error {
	for _, image := range h.images {
		if image.name == service && !h.engine.hasImage(ctx, image.ref()) {
			return fmt.Errorf("%w: %s is missing; `go run ./cmd/testenv test` builds it", ErrNoImages, image.ref())
		}
	}
	_, err := mustRun(ctx, h.engine.composeCommand(ctx, "up", "--detach", "--no-build", "--no-deps", service))
	return err
}

// Leave removes a service that Join started.
func (h *Harness) Leave(ctx context.Context, service string) error {
	_, err := mustRun(ctx, h.engine.composeCommand(ctx, "rm", "--stop", "--force", service))
	return err
}

// Stop stops a service in good order.
func (h *Harness) Stop(ctx context.Context, service string) error {
	return h.containerCommand(ctx, service, "stop")
}

// Start starts a stopped service and returns when it is healthy.
func (h *Harness) Start(ctx context.Context, service string) error {
	if err := h.StartOnly(ctx, service); err != nil {
		return err
	}
	return h.AwaitHealthy(ctx, service)
}

// StartOnly starts a service without waiting for its health, for a daemon that should exit at
// once.
func (h *Harness) StartOnly(ctx context.Context, service string) error {
	return h.containerCommand(ctx, service, "start")
}

// Restart stops and starts a service, and returns when it is healthy.
func (h *Harness) Restart(ctx context.Context, service string) error {
	if err := h.containerCommand(ctx, service, "restart"); err != nil {
		return err
	}
	return h.AwaitHealthy(ctx, service)
}

// Kill ends a service with SIGKILL.
func (h *Harness) Kill(ctx context.Context, service string) error {
	return h.containerCommand(ctx, service, "kill", "--signal", "KILL")
}

// Signal sends a service's first process a signal, such as "HUP".
func (h *Harness) Signal(ctx context.Context, service, signal string) error {
	return h.containerCommand(ctx, service, "kill", "--signal", signal)
}

// Pause freezes a service: its connections stay open and it does not answer.
func (h *Harness) Pause(ctx context.Context, service string) error {
	return h.containerCommand(ctx, service, "pause")
}

// Unpause continues a paused service.
func (h *Harness) Unpause(ctx context.Context, service string) error {
	return h.containerCommand(ctx, service, "unpause")
}

// containerCommand runs one docker command on a service's container.
func (h *Harness) containerCommand(ctx context.Context, service string, args ...string) error {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return err
	}
	_, err = h.engine.docker(ctx, append(args, id)...)
	return err
}

// State returns the engine's state of a service's container, such as running, paused or exited,
// and its exit status once it has exited.
func (h *Harness) State(ctx context.Context, service string) (state string, exit int, err error) {
	id, err := h.engine.container(ctx, service)
	if err != nil {
		return "", 0, err
	}
	out, err := h.engine.inspect(ctx, id, "{{.State.Status}} {{.State.ExitCode}}")
	if err != nil {
		return "", 0, err
	}
	_, err = fmt.Sscan(out, &state, &exit)
	return state, exit, err
}

// AwaitHealthy waits until the health checks of services pass. If a service exits, the error
// contains the end of its log.
func (h *Harness) AwaitHealthy(ctx context.Context, services ...string) error {
	for _, service := range services {
		id, err := h.engine.container(ctx, service)
		if err != nil {
			return err
		}
		err = Await(ctx, healthPoll, func(ctx context.Context) (bool, error) {
			out, err := h.engine.inspect(ctx, id, "{{.State.Status}} {{.State.Health.Status}}")
			if err == nil && strings.HasPrefix(out, "exited") {
				err = errors.New("it has exited")
			}
			return out == "running healthy", err
		})
		if err != nil {
			return fmt.Errorf("service %s is not healthy: %w; its log ends:\n%s", service, err,
				h.logTail(context.WithoutCancel(ctx), id))
		}
	}
	return nil
}

// AwaitExit waits until a service exits and returns its exit status.
func (h *Harness) AwaitExit(ctx context.Context, service string) (status int, err error) {
	err = Await(ctx, healthPoll, func(ctx context.Context) (bool, error) {
		var state string
		state, status, err = h.State(ctx, service)
		return state == "exited", err
	})
	return status, err
}

// unhealthy returns the end of the log of each service that is not healthy.
func (h *Harness) unhealthy(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var text strings.Builder
	for _, service := range []string{DC, Sink, MX, Milter} {
		id, err := h.engine.container(ctx, service)
		if err != nil {
			continue
		}
		if state, _ := h.engine.inspect(ctx, id, "{{.State.Status}} {{.State.Health.Status}}"); state != "running "+
			"healthy" {
			fmt.Fprintf(&text, "%s is %s; its log ends:\n%s\n", service, state, h.logTail(ctx, id))
		}
	}
	return text.String()
}

func (h *Harness) logTail(ctx context.Context, id string) string {
	cmd := exec.CommandContext(ctx, "docker", "logs", "--tail", "15", id)
	out, err := run(ctx, cmd)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out.Stdout + out.Stderr)
}
