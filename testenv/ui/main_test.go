package ui

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// program is the path of the built rcpt-milter.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ui")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "rcpt-milter")
	status := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

// build builds the program, with the race detector if this test has it. It runs in the root of the
// checkout, because the versions of dependencies in go.mod of the product apply there.
func build() error {
	args := []string{"build", "-o", program}
	if raceDetector() {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/rcpt-milter")...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	return nil
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}
