// Command deb builds the Debian packages of this checkout, and the files of a release.
//
//	go -C deploy/deb run . [-arch amd64,arm64] [-version 1.2.3] [-out DIR]
//	go -C deploy/deb run . release [-arch amd64,arm64] [-image=false] [-out DIR]
//
// A package holds one static binary, the systemd units, a commented configuration, the
// manual pages and completions that the binary writes itself, alert rules and a
// dashboard, the licences of all that was linked in, and a bill of materials. Nothing but
// Go is needed to build it. The same commit gives the same packages, byte by byte.
//
// A release is built twice and compared. See docs/releasing.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	arches := flag.String("arch", "amd64,arm64", "architectures, as Go and Debian both name them")
	version := flag.String("version", "", "version of the packages; default: what git describes, or of a release "+
		"its number")
	out := flag.String("out", "../../dist", "directory to write the files into")
	image := flag.Bool("image", true, "release: build the container image too, if Docker answers")
	args := os.Args[1:]
	isRelease := len(args) > 0 && args[0] == "release"
	if isRelease {
		args = args[1:]
	}
	flag.CommandLine.Parse(args) // exits after an error
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if list := strings.Split(*arches, ","); isRelease {
		err = release(ctx, releaseOptions{arches: list, version: *version, out: *out, image: *image})
	} else {
		err = run(ctx, list, *version, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
}

// run builds one package for each architecture and prints their paths.
func run(ctx context.Context, arches []string, version, out string) error {
	b, err := newBuilder(ctx, version)
	if err != nil {
		return err
	}
	defer b.close()
	paths, err := b.packages(ctx, arches, out)
	for _, path := range paths {
		fmt.Println(path)
	}
	return err
}

// newBuilder returns a builder for the checkout around this directory. The caller closes it.
func newBuilder(ctx context.Context, version string) (*builder, error) {
	top, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	source, err := describe(ctx, top, version)
	if err != nil {
		return nil, err
	}
	stage, err := os.MkdirTemp("", "rcpt-milter-deb-")
	return &builder{source: source, top: top, stage: stage}, err
}

// close removes what was made on the way.
func (b *builder) close() { os.RemoveAll(b.stage) }

// packages builds one package for each architecture and returns their paths.
func (b *builder) packages(ctx context.Context, arches []string, out string) ([]string, error) {
	if err := b.documents(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var paths []string
	for _, arch := range arches {
		path, err := b.pack(ctx, arch, out)
		if err != nil {
			return paths, fmt.Errorf("package for %s: %w", arch, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}
