package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// releaseOptions choose what release builds.
type releaseOptions struct {
	arches  []string
	version string // empty means the number that the checkout states
	out     string
	image   bool
	warm    bool // the second build may use the compiler's cache of the first
}

// release builds the files of a release twice, from two checkouts at different paths, and compares
// them byte by byte. It runs each binary that this machine can run, and writes SHA256SUMS.
func release(ctx context.Context, o releaseOptions) error {
	top, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	if o.version == "" {
		if o.version, err = releaseOf(top); err != nil {
			return err
		}
	}
	if err := releasable(ctx, top, o.version); err != nil {
		return err
	}
	first, err := newBuilder(ctx, o.version)
	if err != nil {
		return err
	}
	defer first.close()
	if err := emptied(o.out); err != nil {
		return err
	}
	if err := first.releaseFiles(ctx, o.arches, o.out); err != nil {
		return err
	}
	if err := first.compareWithClone(ctx, o); err != nil {
		return err
	}
	for _, arch := range o.arches {
		binary, err := first.compile(ctx, arch)
		if err != nil {
			return err
		}
		if err := try(ctx, binary, arch, o.version); err != nil {
			return fmt.Errorf("binary for %s: %w", arch, err)
		}
	}
	if o.image {
		if err := first.image(ctx, o.out); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	return writeSums(o.out)
}

// releasable reports why a checkout must not become a release of this version.
func releasable(ctx context.Context, top, version string) error {
	changed, err := output(ctx, top, nil, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the checkout has changes that are not committed; commit them first:\n%s", changed)
	}
	tagged, err := output(ctx, top, nil, "git", "tag", "--list", "v"+version)
	if err != nil {
		return err
	}
	if tagged != "" {
		here, err := output(ctx, top, nil, "git", "tag", "--points-at", "HEAD")
		if err != nil {
			return err
		}
		if !slices.Contains(strings.Fields(here), "v"+version) {
			return fmt.Errorf("tag v%s is another commit; check it out, or raise internal/build/VERSION", version)
		}
	}
	changelog, err := os.ReadFile(filepath.Join(top, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	return dated(string(changelog), version)
}

// releaseHeading is the heading of a release (Keep a Changelog 1.1.0).
var releaseHeading = regexp.MustCompile(`(?m)^## \[([^\]]+)\](?: - (\S+))?`)

// dated reports whether the newest release of a changelog is this version, and has a date.
func dated(changelog, version string) error {
	for _, m := range releaseHeading.FindAllStringSubmatch(changelog, -1) {
		if m[1] == "Unreleased" {
			continue
		}
		if m[1] != version {
			return fmt.Errorf("the newest release in CHANGELOG.md is %s; add one for %s", m[1], version)
		}
		if _, err := time.Parse(time.DateOnly, m[2]); err != nil {
			return fmt.Errorf("CHANGELOG.md has no date for %s; write \"## [%s] - YYYY-MM-DD\"", version, version)
		}
		return nil
	}
	return fmt.Errorf("CHANGELOG.md has no release; add one for %s", version)
}

// emptied makes a directory, and removes the files of an earlier release from it.
func emptied(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "rcpt-milter*"))
	if err != nil {
		return err
	}
	for _, path := range append(old, filepath.Join(dir, sumsName)) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.MkdirAll(dir, 0o755)
}

// releaseFiles writes packages, binaries and the bill of materials.
func (b *builder) releaseFiles(ctx context.Context, arches []string, out string) error {
	if _, err := b.packages(ctx, arches, out); err != nil {
		return err
	}
	stem := filepath.Join(out, "rcpt-milter_"+b.version)
	for _, arch := range arches {
		if err := copyFile(filepath.Join(b.stage, arch, "rcpt-milter"), stem+"_linux_"+arch, 0o755); err != nil {
			return err
		}
	}
	return copyFile(filepath.Join(b.stage, sbomName), stem+".spdx.json", 0o644)
}

// compareWithClone builds the same commit in a clone, and reports each file that differs.
func (b *builder) compareWithClone(ctx context.Context, o releaseOptions) error {
	dir, err := os.MkdirTemp("", "rcpt-milter-again-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	top, again := filepath.Join(dir, "checkout"), filepath.Join(dir, "dist")
	if _, err := output(ctx, b.top, nil, "git", "clone", "--quiet", "--shared", b.top, top); err != nil {
		return err
	}
	commit, err := output(ctx, b.top, nil, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if _, err := output(ctx, top, nil, "git", "checkout", "--quiet", "--detach",
		strings.TrimSpace(commit)); err != nil {
		return err
	}
	second := &builder{source: b.source, top: top, stage: filepath.Join(dir, "stage")}
	if !o.warm {
		second.env = []string{"GOCACHE=" + filepath.Join(dir, "cache")}
	}
	if err := os.Mkdir(second.stage, 0o755); err != nil {
		return err
	}
	if err := second.releaseFiles(ctx, o.arches, again); err != nil {
		return fmt.Errorf("second build: %w", err)
	}
	return sameFiles(o.out, again)
}

// sameFiles reports each file of a release that another build of it lacks or has different.
func sameFiles(first, second string) error {
	entries, err := os.ReadDir(second)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		x, errX := sum(filepath.Join(first, e.Name()))
		y, errY := sum(filepath.Join(second, e.Name()))
		if err := errors.Join(errX, errY); err != nil {
			errs = append(errs, err)
		} else if !bytes.Equal(x, y) {
			errs = append(errs, fmt.Errorf("%s differs in a second build: %x, %x", e.Name(), x, y))
		}
	}
	if len(errs) == 0 {
		fmt.Printf("built twice: %d files, equal byte by byte\n", len(entries))
	}
	return errors.Join(errs...)
}

// sumsName is the file of checksums, for sha256sum -c.
const sumsName = "SHA256SUMS"

// writeSums writes the checksums of all files of a release, and prints them.
func writeSums(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "rcpt-milter*"))
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, path := range paths {
		digest, err := sum(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", digest, filepath.Base(path))
	}
	fmt.Print(text.String())
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(text.String()), 0o644)
}

func sum(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	h := sha256.New()
	_, err = io.Copy(h, file)
	return h.Sum(nil), err
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}
