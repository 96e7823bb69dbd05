package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// licenceID is the licence of the project, as an identifier of SPDX. LICENSE is its text.
const licenceID = "Apache-2.0"

// module is one that is linked into the binary, as `go list` tells.
type module struct {
	Path, Version, Dir string
	Main               bool
}

// copyright is the package's copyright file (Debian Policy 12.5): the licences of all
// that is linked in ask for being passed on with the binary.
func (b *builder) copyright(ctx context.Context) (string, error) {
	modules, err := b.modules(ctx)
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile(filepath.Join(b.top, "LICENSE"))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "rcpt-milter is copyright by its authors.\n\nSPDX-License-Identifier: %s\n\nThe program "+
		"contains the Go standard library and the modules below, each under its own licence.\n\n\n"+
		"rcpt-milter\n===========\n\n%s\n", licenceID, strings.TrimSpace(string(own)))
	library, err := b.standardLibrary(ctx)
	if err != nil {
		return "", err
	}
	library.Path, library.Version = "The Go standard library", ""
	modules = append([]module{library}, modules...)
	for _, m := range modules {
		licence, err := m.licence()
		if err != nil {
			return "", err
		}
		title := strings.TrimSpace(m.Path + " " + m.Version)
		fmt.Fprintf(&text, "\n\n%s\n%s\n\n%s\n", title, strings.Repeat("=", len(title)), licence)
	}
	return text.String(), nil
}

// standardLibrary returns the Go distribution in the form of a module. Its version is the one that
// compiles the program.
func (b *builder) standardLibrary(ctx context.Context) (module, error) {
	text, err := output(ctx, b.top, nil, "go", "env", "GOROOT", "GOVERSION")
	root, version, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return module{Path: "std", Version: version, Dir: root}, err
}

// modules are those whose packages the program imports, not all that go.mod names.
func (b *builder) modules(ctx context.Context) ([]module, error) {
	text, err := output(ctx, b.top, []string{"CGO_ENABLED=0", "GOOS=linux"}, "go", "list", "-deps", "-json=Module",
		"./cmd/rcpt-milter")
	if err != nil {
		return nil, err
	}
	var found []module
	for packages := json.NewDecoder(strings.NewReader(text)); ; {
		var p struct{ Module *module }
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Module != nil && !p.Module.Main && !slices.Contains(found, *p.Module) {
			found = append(found, *p.Module)
		}
	}
	slices.SortFunc(found, func(x, y module) int { return strings.Compare(x.Path, y.Path) })
	return found, nil
}

// licence is the text in the module's top directory, notices included.
func (m module) licence() (string, error) {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return "", fmt.Errorf("licence of %s: %w", m.Path, err)
	}
	var texts []string
	for _, e := range entries {
		if !isLicence(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return "", fmt.Errorf("licence of %s: %w", m.Path, err)
		}
		texts = append(texts, strings.TrimSpace(string(text)))
	}
	if len(texts) == 0 {
		return "", fmt.Errorf("module %s has no licence in %s: it cannot be passed on", m.Path, m.Dir)
	}
	return strings.Join(texts, "\n\n"), nil
}

func isLicence(name string) bool {
	name, _, _ = strings.Cut(strings.ToUpper(name), ".")
	name, _, _ = strings.Cut(name, "-")
	return slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name)
}
