package table

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The environment variable of a process that TestReplaceAfterKill starts: the path to replace.
const replaceInChild = "RCPT_MILTER_TEST_REPLACE"

func TestMain(m *testing.M) {
	if path := os.Getenv(replaceInChild); path != "" {
		Replace(path, func(w io.Writer) error {
			if _, err := io.WriteString(w, "half"); err != nil {
				return err
			}
			os.Stdout.WriteString("writing\n")
			_, err := os.Stdin.Read(make([]byte, 1)) // until it is killed
			return err
		})
	}
	os.Exit(m.Run())
}

// besides returns the names of the files beside a path.
func besides(t *testing.T, path string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReplaceAfterKill: Replace removes the file that a killed process left, and not the one that
// another process writes.
func TestReplaceAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	start := func() *exec.Cmd {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), replaceInChild+"="+path)
		if _, err := child.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { child.Process.Kill() })
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "writing\n" {
			t.Fatalf("the process says %q, %v", line, err)
		}
		return child
	}
	replace := func() {
		t.Helper()
		if err := Replace(path,
			func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }); err != nil {
			t.Fatal(err)
		}
	}
	killed := start()
	killed.Process.Kill()
	killed.Wait()
	if left := besides(t, path); len(left) != 1 {
		t.Fatalf("the killed process left %q", left)
	}
	running := start() // and removes what the first one left
	if left := besides(t, path); len(left) != 1 {
		t.Fatalf("beside the running process are %q", left)
	}
	replace()
	if left := besides(t, path); len(left) != 1 {
		t.Errorf("Replace removed what another process writes: %q", left)
	}
	running.Process.Kill()
	running.Wait()
	if replace(); len(besides(t, path)) != 0 {
		t.Errorf("files are left: %q", besides(t, path))
	}
}

// TestReplaceLeavesOtherFiles: Replace removes files of its own only.
func TestReplaceLeavesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "table")
	const number = "12345678901234567890"
	stay := []string{".table.1234567890123456789", ".table.123456", ".table." + number + "0",
		".table.09345678901234567890",
		".table.99999999999999999999", ".table.1234567890123456789x", ".tables." + number, "table." + number,
		".table." + number + ".bak", ".table-" + number, ".table..2345678901234567890", ".table." + number + "~"}
	for _, name := range append(stay, ".table."+number) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link, folder, fifo := ".table.12345678901234567891", ".table.12345678901234567892", ".table.12345678901234567893"
	if err := os.Symlink(filepath.Join(dir, stay[0]), filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, fifo), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, func(io.Writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := append(stay, link, folder, fifo, "table")
	var got []string
	all, err := os.ReadDir(dir)
	for _, e := range all {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("there are\n%s, %v; want\n%s", strings.Join(got, "\n"), err, strings.Join(want, "\n"))
	}
}

// TestCreateBesideNames: each name is one that removeAbandoned knows.
func TestCreateBesideNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	for range 100 {
		f, err := createBeside(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(f.Name()); !isBeside(name, "table") {
			t.Errorf("the name is %q", name)
		}
		os.Remove(f.Name())
		f.Close()
	}
}

// TestLockBesideOfRemoved: a file that another process removed before it was locked is created again.
func TestLockBesideOfRemoved(t *testing.T) {
	f, err := createBeside(filepath.Join(t.TempDir(), "table"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !lockBeside(f) {
		t.Error("a file that is there counts as removed")
	}
	os.Remove(f.Name())
	if lockBeside(f) {
		t.Error("a removed file counts as there")
	}
}
