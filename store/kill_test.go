package store

import (
	"bufio"
	"flag"
	"math"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"
)

var kills = flag.Int("kills", 24, "how often a process is killed at a random moment in a script of passes")

// TestKilledAtAnyMoment kills a child process at random moments: while it opens the store, and between and within the
// system calls of its commits. Every other child is followed by one that is killed in the same store, so that recovery
// is interrupted, too.
func TestKilledAtAnyMoment(t *testing.T) {
	for name, c := range scripts {
		t.Run(name, func(t *testing.T) {
			longest := c.duration(t, name)
			killed, children := 0, 0
			for killed < *kills/len(scripts) && !t.Failed() {
				dir := t.TempDir()
				for range 1 + rand.N(2) {
					children++
					if after := rand.N(longest); killAt(t, dir, name, after) {
						killed++
						t.Logf("killed %s after its begin", after)
					}
				}
				c.checkAfterCrash(t, dir)
			}
			t.Logf("killed %d of %d children; the script takes %s", killed, children, longest)
		})
	}
}

// duration returns how long a child takes for a script.
func (c crashTest) duration(t *testing.T, script string) time.Duration {
	dir := t.TempDir()
	_, wait := startChild(t, dir, script)
	begin := time.Now()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	c.checkAfterCrash(t, dir)
	return took
}

// killAt reports whether a child was killed, some time after it began to open the store, before it ended.
func killAt(t *testing.T, dir, script string, after time.Duration) bool {
	child, wait := startChild(t, dir, script)
	timer := time.AfterFunc(after, func() { child.Process.Kill() })
	defer timer.Stop()
	err := wait()
	if err != nil && err.Error() != "signal: killed" {
		t.Fatal(err)
	}
	return err != nil
}

// startChild returns a child that has begun, and a function that waits for its end.
func startChild(t *testing.T, dir, script string) (child *exec.Cmd, wait func() error) {
	t.Helper()
	child = crashCommand(dir, script, math.MaxInt)
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the child did not begin: %v", err)
	}
	return child, child.Wait
}
