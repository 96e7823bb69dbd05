package testenv

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Paths in the daemon's container.
const (
	ConfigFile   = "/etc/rcpt-milter/config.yaml"
	PasswordFile = "/etc/rcpt-milter/password"
	StoreDir     = "/var/lib/rcpt-milter"
)

// Status is the part of `rcpt-milter status --json` that tests use.
type Status struct {
	State       string            `json:"state"`
	StoreState  string            `json:"store_state"`
	Addresses   int               `json:"addresses"`
	Objects     int               `json:"objects"`
	Digest      string            `json:"digest"`
	Directories []DirectoryStatus `json:"directories"`
}

// DirectoryStatus is the part about one directory.
type DirectoryStatus struct {
	Name                    string       `json:"name"`
	State                   string       `json:"state"`
	DomainController        string       `json:"domain_controller"`
	InvocationID            string       `json:"invocation_id"`
	USN                     uint64       `json:"usn"`
	HighestUSN              uint64       `json:"highest_committed_usn"`
	LastIncremental         Pass         `json:"last_incremental"`
	LastFull                Pass         `json:"last_full"`
	FullPassReason          string       `json:"full_pass_reason"`
	Running                 *RunningPass `json:"running"` // nil: no pass is running
	LastError               string       `json:"last_error"`
	HeldRemovals            int          `json:"held_removals"`
	DeletedObjectsAreListed bool         `json:"deleted_objects_visible"`
}

// Pass is one sync run in status.
type Pass struct {
	Number  uint64    `json:"number"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Seen    int       `json:"seen"`
	Added   int       `json:"added"`
	Changed int       `json:"changed"`
	Removed int       `json:"removed"`
	Result  string    `json:"result"`
}

// RunningPass is the running pass in status.
type RunningPass struct {
	Kind    string    `json:"kind"` // full or incremental
	Started time.Time `json:"started"`
	Seen    int       `json:"seen"` // objects read so far
}

// Status queries the daemon. An error means that it did not answer.
func (h *Harness) Status(ctx context.Context) (Status, error) {
	return h.StatusAt(ctx, Milter)
}

// StatusAt is Status for the daemon of a service.
func (h *Harness) StatusAt(ctx context.Context, service string) (Status, error) {
	var status Status
	out, err := h.Exec(ctx, service, "rcpt-milter", "status", "--json")
	if err != nil {
		return status, err
	}
	if out.Status > 2 {
		return status, fmt.Errorf("rcpt-milter status: exit status %d: %s", out.Status, strings.TrimSpace(out.Stderr))
	}
	if err := json.Unmarshal([]byte(out.Stdout), &status); err != nil {
		return status, fmt.Errorf("rcpt-milter status --json: %w", err)
	}
	return status, nil
}

// Exported returns every address of the daemon's index, sorted.
func (h *Harness) Exported(ctx context.Context) ([]string, error) { return h.ExportedAt(ctx, Milter) }

// ExportedAt is Exported for the daemon of a service.
func (h *Harness) ExportedAt(ctx context.Context, service string) ([]string, error) {
	out, err := h.Exec(ctx, service, "rcpt-milter", "export", "--format", "json", "--all")
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Address string `json:"address"`
		Source  string `json:"source"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &rows); err != nil {
		return nil, fmt.Errorf("rcpt-milter export: exit status %d, %w: %s", out.Status, err, lastLines(out.Stderr, 3))
	}
	var list []string
	for _, r := range rows {
		if r.Source == "index" {
			list = append(list, r.Address)
		}
	}
	slices.Sort(list)
	return list, nil
}

// AwaitFresh waits until the daemon reports that its index is fresh.
func (h *Harness) AwaitFresh(ctx context.Context) (Status, error) {
	var status Status
	err := AwaitNil(ctx, healthPoll, func(ctx context.Context) error {
		var err error
		if status, err = h.Status(ctx); err != nil {
			return err
		}
		if status.State != "fresh" {
			return fmt.Errorf("state is %q: %s", status.State, status.errors())
		}
		return nil
	})
	return status, err
}

// errors returns the last errors of the directories.
func (s Status) errors() string {
	var text []string
	for _, d := range s.Directories {
		if d.LastError != "" {
			text = append(text, d.Name+": "+d.LastError)
		}
	}
	return strings.Join(text, "; ")
}

// Sync runs a pass and waits until it ends.
func (h *Harness) Sync(ctx context.Context, args ...string) error {
	out, err := h.RunMilter(ctx, append([]string{"sync", "--wait"}, args...)...)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("rcpt-milter sync: exit status %d: %s", out.Status, strings.TrimSpace(out.Stderr+out.Stdout))
	}
	return err
}

// DefaultConfig returns the configuration that the harness starts the daemon with.
func (h *Harness) DefaultConfig() (string, error) {
	text, err := os.ReadFile(h.configPath)
	return string(text), err
}

// Configure writes the default configuration, changed by the edits, without restarting the
// daemon. An edit gets the YAML text and returns the new one.
func (h *Harness) Configure(ctx context.Context, edits ...func(string) string) error {
	text, err := h.DefaultConfig()
	if err != nil {
		return err
	}
	for _, edit := range edits {
		text = edit(text)
	}
	return h.WriteFile(ctx, Milter, ConfigFile, text)
}

// Replace returns an edit that replaces old, which must be in the text, by new. If old is
// missing, the result is not valid YAML, which stops the test.
func Replace(old, new string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			return "{{ the configuration does not contain " + old
		}
		return strings.ReplaceAll(text, old, new)
	}
}

// Overlay returns an edit that merges more into the text: each top-level key of more, with its
// value, replaces the same key or is added.
func Overlay(more string) func(string) string {
	return func(text string) string {
		names := map[string]bool{}
		for _, block := range topLevel(more) {
			names[topLevelKey(block)] = true
		}
		delete(names, "") // comments of more replace no comment
		kept := slices.DeleteFunc(topLevel(text), func(block string) bool { return names[topLevelKey(block)] })
		return strings.Join(kept, "") + more
	}
}

// topLevel splits YAML text in block style into its top-level keys with their values. The
// comments before the first key are a block too.
func topLevel(text string) []string {
	var blocks []string
	for line := range strings.Lines(text) {
		if len(blocks) > 0 && topLevelKey(line) == "" {
			blocks[len(blocks)-1] += line
		} else {
			blocks = append(blocks, line)
		}
	}
	return blocks
}

// topLevelKey returns the key at the beginning of a block; empty if there is none.
func topLevelKey(block string) string {
	key, _, found := strings.Cut(block, ":")
	if !found || strings.ContainsAny(key[:min(1, len(key))], " #-\n") {
		return ""
	}
	return key
}

// WriteFile writes a text file into a container, running or not. The group rcpt-milter (310) may
// read it.
func (h *Harness) WriteFile(ctx context.Context, service, name, text string) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: path.Base(name), Mode: 0o640, Size: int64(len(text)), Gid: 310,
			ModTime: time.Now()}),
		write(w, text), w.Close())
	if err != nil {
		return err
	}
	return h.copyArchive(ctx, service, path.Dir(name), &archive)
}

func write(w *tar.Writer, text string) error {
	_, err := w.Write([]byte(text))
	return err
}

// ReadFile reads a text file of a running container.
func (h *Harness) ReadFile(ctx context.Context, service, name string) (string, error) {
	out, err := h.Exec(ctx, service, "cat", name)
	if err == nil && out.Status != 0 {
		err = fmt.Errorf("%s in %s: %s", name, service, strings.TrimSpace(out.Stderr))
	}
	return out.Stdout, err
}

// EmptyStore removes the index of a stopped daemon, as if it had never run.
func (h *Harness) EmptyStore(ctx context.Context) error {
	return h.inStore(ctx, "find "+StoreDir+" -mindepth 1 -delete")
}

// DamageStore overwrites the table files of the daemon's index. A running daemon keeps them open.
func (h *Harness) DamageStore(ctx context.Context) error {
	return h.inStore(ctx, "cd "+StoreDir+" && ls *.sst && for f in *.sst; do "+
		"head -c $(stat -c %s $f) /dev/zero | tr '\\0' x | dd of=$f conv=notrunc status=none; done")
}

// inStore runs a shell script in a container with the volumes of the daemon, as root.
func (h *Harness) inStore(ctx context.Context, script string) error {
	id, err := h.engine.container(ctx, Milter)
	if err != nil {
		return err
	}
	image, err := h.engine.inspect(ctx, id, "{{.Image}}")
	if err != nil {
		return err
	}
	// A container that is not running runs no script, so another one of the same image mounts its volumes.
	_, err = h.engine.docker(ctx, "run", "--rm", "--volumes-from", id, "--user", "root", "--network", "none",
		"--entrypoint", "sh", image, "-ec", script)
	return err
}
