package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"rcpt-milter/testenv"
)

// openOwned opens the setup and takes the owner lock for this process.
func openOwned(ctx context.Context, t *terminal) (*testenv.Setup, func(), error) {
	setup, err := testenv.Open(ctx, t.step)
	if err != nil {
		return nil, nil, err
	}
	release, err := setup.Own(ctx, func(holder string) { t.say("waiting for the harness, owned by %s", holder) })
	return setup, release, err
}

// withHarness builds missing images, starts a harness and calls do. Afterwards it takes the harness
// down, even after an error, unless keep is true. It builds images of optional services only if
// join names them.
func withHarness(
	ctx context.Context, t *terminal, keep bool, do func(*testenv.Setup, *testenv.Harness) error, join ...string,
) (err error) {
	setup, release, err := openOwned(ctx, t)
	if err != nil {
		return err
	}
	defer release()
	if err := setup.Build(ctx, join...); err != nil {
		return err
	}
	harness, err := setup.Up(ctx)
	if err != nil {
		return err
	}
	if keep {
		defer func() { err = errors.Join(err, setup.Keep()) }()
	} else {
		defer func() { err = errors.Join(err, setup.Down(context.WithoutCancel(ctx))) }()
	}
	return do(setup, harness)
}

// up leaves a harness running with the current daemon of the checkout.
func up(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	t := newTerminal(os.Stdout)
	return withHarness(ctx, t, true, func(_ *testenv.Setup, h *testenv.Harness) error {
		for _, port := range []struct {
			service, what string
			port          int
		}{{testenv.MX, "SMTP", testenv.PortSMTP}, {testenv.DC, "LDAPS", 636}, {testenv.Milter, "metrics", 9417}} {
			address, err := h.Address(ctx, port.service, port.port)
			if err != nil {
				return err
			}
			t.say("%s of %s: %s", port.what, port.service, address)
		}
		t.say("the harness stays up; `go run ./cmd/testenv down` removes it")
		return nil
	})
}

// down removes the harness; images stay.
func down(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	setup, release, err := openOwned(ctx, newTerminal(os.Stdout))
	if err != nil {
		return err
	}
	defer release()
	return setup.Down(ctx)
}

// clean removes the harness and its images.
func clean(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	setup, release, err := openOwned(ctx, newTerminal(os.Stdout))
	if err != nil {
		return err
	}
	defer release()
	return setup.Clean(ctx)
}

// test runs go test over the whole project while a harness is up, and exits with its status.
func test(ctx context.Context, args []string) error {
	t := newTerminal(os.Stdout)
	return withHarness(ctx, t, false, func(setup *testenv.Setup, _ *testenv.Harness) error {
		var failed error
		for _, run := range testRuns(args, os.Getenv("RACE") != "") {
			t.say("go %s", strings.Join(run, " "))
			err := goTest(ctx, setup.Root(), run)
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
				return err
			}
			if exit != nil && failed == nil { // the next run still shows its failures
				failed = exitStatus(max(exit.ExitCode(), 1))
			}
		}
		return failed
	}, testenv.Sendmail, testenv.Prometheus, testenv.Systemd)
}

// goTest runs the go command in the root of the checkout, with the harness that is up.
func goTest(ctx context.Context, root string, arguments []string) error {
	cmd := exec.CommandContext(ctx, "go", arguments...)
	cmd.Dir = root
	env, remove := inMemory(os.Environ())
	defer remove()
	cmd.Env = append(env, testenv.EnvMode+"=require", testenv.EnvKept+"=kept")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}

// uiModule is the directory of the tests that are a module of their own.
const uiModule = "testenv/ui"

// testRuns returns the arguments of the go command, for each run that the command line needs: one
// for the packages of the product's module and one for those of uiModule. Without packages on the
// command line, it needs both.
func testRuns(args []string, race bool) (runs [][]string) {
	var product, ui []string
	productNamed, uiNamed := false, false
	for _, arg := range args {
		if !isPackage(arg) {
			product, ui = append(product, arg), append(ui, arg)
			continue
		}
		inProduct, inUI := modulesOf(arg)
		if inProduct {
			product, productNamed = append(product, arg), true
		}
		if inUI && !uiNamed {
			ui, uiNamed = append(ui, "./..."), true
		}
	}
	if productNamed || !uiNamed {
		runs = append(runs, append([]string{"test"}, testArguments(product, race)...))
	}
	if uiNamed || !productNamed {
		runs = append(runs, append([]string{"-C", uiModule, "test"}, testArguments(ui, race)...))
	}
	return runs
}

// modulesOf reports which modules have packages of this pattern.
func modulesOf(pattern string) (product, ui bool) {
	path := strings.TrimPrefix(strings.TrimPrefix(pattern, "./"), "rcpt-milter/")
	if path == uiModule || strings.HasPrefix(path, uiModule+"/") {
		return false, true
	}
	parent, wildcard := strings.CutSuffix(path, "...")
	return true, wildcard && strings.HasPrefix(uiModule, parent)
}

// testArguments returns the arguments of go test: the harness's own, then those of the command
// line, then all packages unless packages were named.
func testArguments(args []string, race bool) []string {
	arguments := []string{"-count=1", "-timeout", "80m"}
	if race && !slices.Contains(args, "-race") {
		arguments = append(arguments, "-race")
	}
	arguments = append(arguments, args...)
	if !slices.ContainsFunc(args, isPackage) {
		arguments = append(arguments, "./...")
	}
	return arguments
}

// isPackage distinguishes a package pattern from a flag and its value.
func isPackage(arg string) bool {
	return strings.HasPrefix(arg, "./") || arg == "." || strings.HasPrefix(arg, "rcpt-milter/")
}

// switches parses arguments that are all switches, with one dash or two.
func switches(args []string, known ...string) (map[string]bool, error) {
	on := map[string]bool{}
	for _, arg := range args {
		name := strings.TrimLeft(arg, "-")
		if !strings.HasPrefix(arg, "-") || !slices.Contains(known, name) {
			return nil, fmt.Errorf("%w: %s", errUsage, arg)
		}
		on[name] = true
	}
	return on, nil
}
