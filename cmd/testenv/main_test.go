package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTestRuns(t *testing.T) {
	const product, ui = "test -count=1 -timeout 80m ", "-C testenv/ui test -count=1 -timeout 80m "
	tests := []struct {
		name string
		args []string
		race bool
		want []string
	}{
		{"all", nil, false, []string{product + "./...", ui + "./..."}},
		{"race by flag", []string{"-race"}, false, []string{product + "-race ./...", ui + "-race ./..."}},
		{"race by environment", nil, true, []string{product + "-race ./...", ui + "-race ./..."}},
		{"race by both", []string{"-race"}, true, []string{product + "-race ./...", ui + "-race ./..."}},
		{"flags with values", []string{"-run", "TestStory", "-v"}, false,
			[]string{product + "-run TestStory -v ./...", ui + "-run TestStory -v ./..."}},
		{"packages", []string{"-v", "./testenv"}, false, []string{product + "-v ./testenv"}},
		{"package by name", []string{"rcpt-milter/mirror"}, false, []string{product + "rcpt-milter/mirror"}},
		{"package of the other module", []string{"./testenv/ui", "-run", "X"}, false, []string{ui + "./... -run X"}},
		{"packages of both modules", []string{"./store", "rcpt-milter/testenv/ui", "-v"}, false,
			[]string{product + "./store -v", ui + "./... -v"}},
		{"pattern over both modules", []string{"./testenv/...", "-v"}, false,
			[]string{product + "./testenv/... -v", ui + "./... -v"}},
		{"another timeout comes later and wins", []string{"-timeout", "5m"}, false,
			[]string{product + "-timeout 5m ./...", ui + "-timeout 5m ./..."}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, run := range testRuns(test.args, test.race) {
				got = append(got, strings.Join(run, " "))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("testRuns(%q) (-want +got):\n%s", test.args, diff)
			}
		})
	}
}

func TestSwitches(t *testing.T) {
	tests := []struct {
		args []string
		want map[string]bool
		bad  bool
	}{
		{nil, map[string]bool{}, false},
		{[]string{"--keep", "-install"}, map[string]bool{"keep": true, "install": true}, false},
		{[]string{"keep"}, nil, true},
		{[]string{"--keeep"}, nil, true},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			got, err := switches(test.args, "keep", "install")
			if diff := cmp.Diff(test.want, got); diff != "" || errors.Is(err, errUsage) != test.bad {
				t.Errorf("switches(%q) = %v, %v, want %v and a usage error: %v", test.args, got, err, test.want,
					test.bad)
			}
		})
	}
}

func TestRunUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"tset"}, {"down", "now"}, {"measure", "-n", "0"}, {"demo", "--forever"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			if got := run(context.Background(), args); got != exitUsage {
				t.Errorf("run(%q) = %d, want %d", args, got, exitUsage)
			}
		})
	}
}

// A file or a pipe gets whole lines only.
func TestTerminalPlain(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal := newTerminal(file)
	terminal.step("building")(nil)
	terminal.step("starting")(errors.New("no"))
	terminal.say("%d things", 3)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(text, "\r\x1b") {
		t.Errorf("control characters in %q", text)
	}
	for _, want := range []string{"building ...\n", "building: done in ", "starting: FAILED in ", "] 3 things\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("output %q lacks %q", text, want)
		}
	}
}
