package testenv

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFindCheckout(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := findCheckout(deep); !errors.Is(err, ErrNoCheckout) {
		t.Errorf("findCheckout outside = %v, want ErrNoCheckout", err)
	}
	for _, name := range []string{"go.mod", "docker-compose.yml"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findCheckout(deep)
	if string(got) != root || err != nil {
		t.Errorf("findCheckout(%q) = %q, %v, want %q", deep, got, err, root)
	}
	if got.project() == checkout(deep).project() {
		t.Error("two directories have the same project name")
	}
}

func TestDigest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	seen := map[string]string{}
	for _, state := range []struct {
		name string
		text string
		mode os.FileMode
	}{{"first", "a", 0o644}, {"other text", "b", 0o644}, {"other mode", "b", 0o755}} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(state.text), state.mode); err != nil {
			t.Fatal(err)
		}
		got, err := digest(dir)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[got]; ok {
			t.Errorf("digest of %q is that of %q", state.name, before)
		}
		seen[got] = state.name
	}
}

func TestLock(t *testing.T) {
	home := checkout(t.TempDir())
	release, err := home.lock(t.Context(), ownerLock, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A second one waits, learns the holder of the lock, and gives up with its context.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var holder string
	if _, err := home.lock(ctx, ownerLock, func(h string) { holder = h }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock = %v, want DeadlineExceeded", err)
	}
	if !strings.HasPrefix(holder, "process ") {
		t.Errorf("holder = %q, want the first process", holder)
	}
	// Another name is another lock.
	other, err := home.lock(t.Context(), turnLock, nil)
	if err != nil {
		t.Fatal(err)
	}
	other()
	// A released lock can be taken.
	release()
	again, err := home.lock(t.Context(), ownerLock, nil)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func command(ctx context.Context, script string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", script)
}

func TestRunLeavesStatus(t *testing.T) {
	out, err := run(t.Context(), command(t.Context(), "echo out; echo err >&2; exit 3"))
	if err != nil || out.Status != 3 || out.Stdout != "out\n" || out.Stderr != "err\n" {
		t.Errorf("run = %+v, %v, want status 3 with both outputs", out, err)
	}
	if _, err := mustRun(t.Context(), command(t.Context(), "echo why >&2; exit 3")); err == nil ||
		!strings.Contains(err.Error(), "why") {
		t.Errorf("mustRun = %v, want an error with the command's words", err)
	}
}

// When the context ends, the children of the command end too.
func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := run(ctx, command(ctx, "sleep 60 & wait"))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 5*time.Second {
		t.Errorf("run = %v after %v, want DeadlineExceeded at once", err, time.Since(started))
	}
}

func TestAwaitNil(t *testing.T) {
	calls := 0
	err := AwaitNil(t.Context(), time.Millisecond, func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("AwaitNil = %v after %d calls, want nil after 3", err, calls)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	missing := errors.New("the thing is missing")
	err = AwaitNil(ctx, time.Millisecond, func(context.Context) error { return missing })
	if !errors.Is(err, missing) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AwaitNil = %v, want the last error and the deadline", err)
	}
}
