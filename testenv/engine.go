package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// ErrNoEngine means that no container engine or no compose command is usable.
var ErrNoEngine = errors.New("no container engine")

// engineDeadline limits the check that an engine answers.
// A busy machine takes 10 seconds and more to start docker-compose.
const engineDeadline = 90 * time.Second

// engine runs the docker and compose commands of this machine for one project.
type engine struct {
	compose []string // "docker compose" or "docker-compose"
	dir     string   // where docker-compose.yml is
	project string
	env     []string // image tags for docker-compose.yml
}

// findEngine finds a running engine and a compose command. The error wraps ErrNoEngine and names
// the missing one.
func findEngine(ctx context.Context, home checkout) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	e := &engine{dir: string(home), project: home.project()}
	if _, err := e.docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return nil, fmt.Errorf("%w: docker does not answer (%v); install and start Docker, or run `go run "+
			"./cmd/testenv demo --install` as root on Debian", ErrNoEngine, err)
	}
	for _, compose := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		out, err := run(ctx, exec.CommandContext(ctx, compose[0], append(compose[1:], "version")...))
		if err == nil && out.Status == 0 {
			e.compose = compose
			return e, nil
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: Docker and Compose do not answer within %s; is the machine overloaded?",
			ErrNoEngine, engineDeadline)
	}
	return nil, fmt.Errorf("%w: neither `docker compose` nor `docker-compose` works; install Debian's "+
		"docker-compose or Compose v2", ErrNoEngine)
}

// docker runs one docker command and returns its output.
func (e *engine) docker(ctx context.Context, args ...string) (string, error) {
	return mustRun(ctx, exec.CommandContext(ctx, "docker", args...))
}

// composeCommand returns a compose command on the project.
func (e *engine) composeCommand(ctx context.Context, args ...string) *exec.Cmd {
	return e.composeCommandWith(ctx, "", args...)
}

// composeCommandWith is composeCommand with a further Compose file, unless it is empty.
func (e *engine) composeCommandWith(ctx context.Context, more string, args ...string) *exec.Cmd {
	full := append([]string{}, e.compose[1:]...)
	full = append(full, "-p", e.project, "-f", "docker-compose.yml")
	if more != "" {
		full = append(full, "-f", more)
	}
	cmd := exec.CommandContext(ctx, e.compose[0], append(full, args...)...)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), e.env...)
	return cmd
}

// container returns the id of a service's container, running or not. It searches by label,
// because Compose v1 and v2 name containers differently.
func (e *engine) container(ctx context.Context, service string) (string, error) {
	out, err := e.docker(ctx, "ps", "--all", "--quiet", "--no-trunc",
		"--filter", "label=com.docker.compose.project="+e.project,
		"--filter", "label=com.docker.compose.service="+service)
	if err != nil {
		return "", err
	}
	ids := strings.Fields(out)
	if len(ids) != 1 {
		return "", fmt.Errorf("%d containers for service %s of project %s, want 1", len(ids), service, e.project)
	}
	return ids[0], nil
}

// inspect returns one field of a container, in docker's template language.
func (e *engine) inspect(ctx context.Context, id, format string) (string, error) {
	out, err := e.docker(ctx, "inspect", "--format", format, id)
	return strings.TrimSpace(out), err
}

func (e *engine) hasImage(ctx context.Context, ref string) bool {
	_, err := e.docker(ctx, "image", "inspect", "--format", "{{.Id}}", ref)
	return err == nil
}
