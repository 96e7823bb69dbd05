package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// image builds the container image for this machine's architecture, and saves it. The layers that
// Docker makes bear the time of the build, so the image is not compared with a second one. Its
// binary must be the one of the package.
func (b *builder) image(ctx context.Context, out string) error {
	if _, err := output(ctx, b.top, nil, "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		fmt.Println("image: not built; Docker does not answer here")
		return nil
	}
	binary, err := b.compile(ctx, runtime.GOARCH)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.stage, "image")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := errors.Join(copyFile(filepath.Join(b.top, "deploy/Dockerfile"), filepath.Join(dir, "Dockerfile"), 0o644),
		copyFile(binary, filepath.Join(dir, "rcpt-milter"), 0o755)); err != nil {
		return err
	}
	tag := "rcpt-milter:" + strings.NewReplacer("~", "-", "+", "-").Replace(b.version)
	base, pinned := imageBase(os.Getenv)
	if !pinned {
		fmt.Printf("image: the base %s has no digest; set BASE=%s@sha256:... to repeat this build\n", base, base)
	}
	if _, err := output(ctx, dir, nil, "docker", b.imageArgs(tag, os.Getenv)...); err != nil {
		return err
	}
	if err := sameBinary(ctx, tag, binary); err != nil {
		return err
	}
	path := filepath.Join(out, "rcpt-milter_"+b.version+"_image_"+runtime.GOARCH+".tar.gz")
	return saveImage(ctx, tag, path)
}

// defaultBase is the default of deploy/Dockerfile. It has no digest: see docs/security.md.
const defaultBase = "debian:bookworm-slim"

// imageBase returns the base of the image, and whether its digest is given.
func imageBase(getenv func(string) string) (base string, pinned bool) {
	base = cmp.Or(getenv("BASE"), defaultBase)
	return base, strings.Contains(base, "@sha256:")
}

// imageArgs returns the arguments of docker. The labels are those of the OCI image specification,
// annotations.md; that of the base shows later what a build was made from.
func (b *builder) imageArgs(tag string, getenv func(string) string) []string {
	base, pinned := imageBase(getenv)
	name, digest, _ := strings.Cut(base, "@")
	labels := []string{"version=" + b.version, "licenses=" + licenceID, "base.name=" + name}
	if pinned {
		labels = append(labels, "base.digest="+digest)
	}
	args := []string{"build", "--tag", tag}
	for _, label := range labels {
		args = append(args, "--label", "org.opencontainers.image."+label)
	}
	args = append(args, "--build-arg", "BASE="+base, "--build-arg", "APT_CONF="+getenv("APT_CONF"))
	for _, proxy := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		if value := getenv(proxy); value != "" {
			args = append(args, "--build-arg", proxy+"="+value)
		}
	}
	return append(args, ".")
}

// sameBinary compares the binary in an image with the one that went into it.
func sameBinary(ctx context.Context, tag, binary string) error {
	id, err := output(ctx, ".", nil, "docker", "create", tag)
	if err != nil {
		return err
	}
	id = strings.TrimSpace(id)
	defer output(context.WithoutCancel(ctx), ".", nil, "docker", "rm", "--volumes", id)
	packed, err := output(ctx, ".", nil, "docker", "cp", id+":/usr/bin/rcpt-milter", "-")
	if err != nil {
		return err
	}
	r := tar.NewReader(strings.NewReader(packed))
	if _, err := r.Next(); err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	want, err := os.ReadFile(binary)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("its binary is not the one of the package")
	}
	return err
}

// saveImage writes the archive that "docker load" reads.
func saveImage(ctx context.Context, tag, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w := gzip.NewWriter(file)
	save := exec.CommandContext(ctx, "docker", "save", tag)
	save.Stdout, save.Stderr = w, os.Stderr
	if err := save.Run(); err != nil {
		return fmt.Errorf("docker save %s: %w", tag, err)
	}
	return errors.Join(w.Close(), file.Close())
}
