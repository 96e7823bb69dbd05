// Command deb builds the Debian packages of this checkout.
//
//	go -C deploy/deb run . [-arch amd64,arm64] [-version 1.2.3] [-out DIR]
//
// A package holds one static binary, the systemd units, a commented configuration, the
// manual pages and completions that the binary writes itself, alert rules and a
// dashboard, and the licences of all that was linked in. Nothing but Go is needed to
// build it. The same commit gives the same packages, byte by byte.
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
	version := flag.String("version", "", "version of the packages; default: what git describes")
	out := flag.String("out", "../../dist", "directory to write the packages into")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, strings.Split(*arches, ","), *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
}

// run builds one package for each architecture and prints their paths.
func run(ctx context.Context, arches []string, version, out string) error {
	top, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "rcpt-milter-deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	source, err := describe(ctx, top, version)
	if err != nil {
		return err
	}
	b := &builder{source: source, top: top, stage: stage}
	if err := b.documents(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, arch := range arches {
		path, err := b.pack(ctx, arch, out)
		if err != nil {
			return fmt.Errorf("package for %s: %w", arch, err)
		}
		fmt.Println(path)
	}
	return nil
}
