package main

import (
	"compress/gzip"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// builder makes packages of one state of the sources.
type builder struct {
	source
	top   string   // of the checkout
	stage string   // a directory for what is made on the way
	env   []string // for the compiler, beside its own
}

// compile makes the static binary for an architecture and gives its path.
func (b *builder) compile(ctx context.Context, arch string) (string, error) {
	path := filepath.Join(b.stage, arch, "rcpt-milter")
	if _, err := os.Stat(path); err == nil {
		return path, nil // made for the documents
	}
	env := append([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}, b.env...)
	_, err := output(ctx, b.top, env,
		"go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+b.version, "-o", path, "./cmd/rcpt-milter")
	if err != nil {
		return "", err
	}
	return path, static(path, arch)
}

// static finds out whether a binary runs without any library, on that architecture.
func static(path, arch string) error {
	binary, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer binary.Close()
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if want, known := machines[arch]; known && binary.Machine != want {
		return fmt.Errorf("%s is for %s, not for %s", path, binary.Machine, arch)
	}
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("%s wants libraries: it is not static", path)
		}
	}
	return nil
}

// documents makes what is the same for all architectures: manual pages and completions,
// which a binary for this machine writes, the changelog and the licences.
func (b *builder) documents(ctx context.Context) error {
	binary, err := b.compile(ctx, runtime.GOARCH)
	if err != nil {
		return err
	}
	pages := filepath.Join(b.stage, "man")
	epoch := fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.time.Unix())
	if _, err := output(ctx, b.top, []string{epoch}, binary, "man", "--dir", pages); err != nil {
		return err
	}
	if err := b.compressPages(pages); err != nil {
		return err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := output(ctx, b.top, nil, binary, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.stage, "completion."+shell), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := b.writeChangelogs(); err != nil {
		return err
	}
	text, err := b.copyright(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.stage, "copyright"), []byte(text), 0o644); err != nil {
		return err
	}
	bill, err := b.sbom(ctx)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.stage, sbomName), bill, 0o644)
}

// writeChangelogs writes the one entry that Debian's tools want, and the project's own changelog
// under the name that Debian has for news.
func (b *builder) writeChangelogs() error {
	maintainer, err := b.maintainer()
	if err != nil {
		return err
	}
	entry := fmt.Sprintf("rcpt-milter (%s) unstable; urgency=medium\n\n  * Built from the project's own sources; "+
		"NEWS.gz lists the changes.\n\n -- %s  %s\n", b.version, maintainer, b.time.Format(time.RFC1123Z))
	news, err := os.ReadFile(filepath.Join(b.top, "CHANGELOG.md"))
	return errors.Join(err, b.compress(filepath.Join(b.stage, "changelog.gz"), []byte(entry)),
		b.compress(filepath.Join(b.stage, "NEWS.gz"), news))
}

func (b *builder) compressPages(dir string) error {
	pages, err := filepath.Glob(filepath.Join(dir, "man?", "*.[58]"))
	if err != nil || len(pages) == 0 {
		return errors.Join(err, fmt.Errorf("no manual pages in %s", dir))
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err == nil {
			err = b.compress(page+".gz", text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compress writes a file for people as policy has it: gzip -9n, without name and time
// (Debian Policy 12.3).
func (b *builder) compress(path string, text []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return errors.Join(w.Close(), file.Close())
}
