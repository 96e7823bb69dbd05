package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoImages means that the images of the harness are not built yet.
var ErrNoImages = errors.New("harness images are not built")

// imageLabel marks every image of this package; its value is the image's name.
const imageLabel = "rcpt-milter.testenv"

// image is one image of docker-compose.yml.
type image struct {
	name        string // below rcpt-milter-testenv/
	tag         string
	description string // for progress messages
	optional    bool   // only Join starts its service
}

func (i image) ref() string { return "rcpt-milter-testenv/" + i.name + ":" + i.tag }

// variable returns the environment variable from which docker-compose.yml takes the tag.
func (i image) variable() string {
	name := strings.TrimPrefix(strings.ToUpper(i.name), "RCPT-")
	return "TESTENV_" + name + "_TAG=" + i.tag
}

// findImages returns the images that this checkout needs. The tag of each image but the daemon's
// is a digest of its sources, which keeps images of other sources apart. The daemon's image is
// built every time.
func findImages(home checkout) ([]image, error) {
	images := []image{
		{name: "dc1", description: "Samba AD, also for dc2, about a minute"},
		{name: "postfix", description: "Postfix, about 20 seconds"},
		{name: Sendmail, description: "Sendmail and miltertest, about 30 seconds", optional: true},
		{name: Systemd, description: "systemd, Postfix and lintian, about two minutes", optional: true},
		{name: Prometheus, description: "Prometheus, about a minute", optional: true},
		{name: Bench, description: "Postfix with tables, milters in C, about a minute", optional: true},
	}
	for i := range images {
		tag, err := digest(home.path("testenv", "images", images[i].name))
		if err != nil {
			return nil, err
		}
		images[i].tag = tag
	}
	return append(images, image{name: "rcpt-milter", tag: home.project(), description: "this checkout"}), nil
}

// Built returns an error that wraps ErrNoImages if an image that takes long to build is missing.
func (s *Setup) Built(ctx context.Context) error {
	for _, image := range s.images {
		if image.name == Milter || image.optional {
			continue // Up builds the daemon in seconds; optional images are not always needed
		}
		if !s.engine.hasImage(ctx, image.ref()) {
			return fmt.Errorf("%w: %s is missing; `go run ./cmd/testenv test` builds it", ErrNoImages, image.ref())
		}
	}
	return nil
}

// Build builds the base image and every other missing image. It builds images of optional
// services only if join names them.
func (s *Setup) Build(ctx context.Context, join ...string) error {
	missing := slices.DeleteFunc(slices.Clone(s.images), func(image image) bool {
		return image.name == Milter || image.optional && !slices.Contains(join, image.name) ||
			s.engine.hasImage(ctx, image.ref())
	})
	if len(missing) == 0 && s.engine.hasImage(ctx, baseImage) {
		return nil
	}
	return s.withLog(func(log io.Writer) error {
		if err := s.buildBase(ctx, log); err != nil {
			return err
		}
		for _, image := range missing {
			err := s.progress.run(fmt.Sprintf("building image %s (%s)", image.name, image.description), func() error {
				return s.buildImage(ctx, log, image, s.home.path("testenv", "images", image.name))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Image returns the reference of an image by the name of its service; empty if there is none.
func (s *Setup) Image(name string) string {
	for _, image := range s.images {
		if image.name == name {
			return image.ref()
		}
	}
	return ""
}

// withLog runs a build with .testenv/build.log as its log. If the build fails, the error contains
// the end of the log.
func (s *Setup) withLog(build func(log io.Writer) error) error {
	path, err := s.home.statePath("build.log")
	if err != nil {
		return err
	}
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("build log: %w", err)
	}
	defer log.Close()
	if err := build(log); err != nil {
		text, _ := os.ReadFile(path)
		return fmt.Errorf("%w\nthe end of %s:\n%s", err, path, lastLines(string(text), 20))
	}
	return nil
}

// buildImage runs one docker build with the machine's apt settings and proxies, because apt inside
// the build must reach the same archive.
func (s *Setup) buildImage(ctx context.Context, log io.Writer, image image, dir string) error {
	args := []string{"build", "--tag", image.ref()}
	args = append(args, buildArgs(aptSettings(ctx), os.Environ())...)
	cmd := exec.CommandContext(ctx, "docker", append(args, dir)...)
	out, err := run(ctx, withOutput(log, cmd))
	if err != nil {
		return err
	}
	if out.Status != 0 {
		return fmt.Errorf("building image %s: docker build ended with status %d", image.name, out.Status)
	}
	return nil
}

// buildDaemon compiles the daemon of this checkout for the engine and builds its image.
func (s *Setup) buildDaemon(ctx context.Context) error {
	stage, err := s.home.statePath("rcpt-milter", "rcpt-milter")
	if err != nil {
		return err
	}
	return s.progress.run("building the daemon of this checkout", func() error {
		if err := s.compile(ctx, stage); err != nil {
			return err
		}
		for _, name := range []string{"Dockerfile", "config.yaml"} {
			text, err := os.ReadFile(s.home.path("testenv", "images", "rcpt-milter", name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(stage), name), text, 0o644); err != nil {
				return err
			}
		}
		daemon := s.images[len(s.images)-1]
		before, _ := s.engine.docker(ctx, "image", "ls", "--quiet", "--no-trunc", daemon.ref())
		err := s.withLog(func(log io.Writer) error {
			return s.buildImage(ctx, log, daemon, filepath.Dir(stage))
		})
		if err != nil {
			return err
		}
		// The image of the previous sources has lost its tag. Remove it unless a container
		// still uses it.
		after, err := s.engine.docker(ctx, "image", "ls", "--quiet", "--no-trunc", daemon.ref())
		if err == nil && before != "" && before != after {
			s.engine.docker(ctx, "image", "rm", strings.TrimSpace(before))
		}
		return err
	})
}

// compile builds a static binary. The same sources give the same bytes.
func (s *Setup) compile(ctx context.Context, output string) error {
	arch, err := s.engine.docker(ctx, "version", "--format", "{{.Server.Arch}}")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", output, "./cmd/rcpt-milter")
	cmd.Dir = string(s.home)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+strings.TrimSpace(arch))
	_, err = mustRun(ctx, cmd)
	return err
}

// removeImages removes every image with the label, including those of other sources and other
// checkouts. An image in use by a container belongs to a running harness, and stays.
func (s *Setup) removeImages(ctx context.Context) error {
	for { // each round makes the parents of the removed images removable
		out, err := s.engine.docker(ctx, "image", "ls", "--filter", "label="+imageLabel, "--format",
			"{{.Repository}}:{{.Tag}} {{.ID}}")
		if err != nil {
			return err
		}
		removed, lines := 0, strings.Split(strings.TrimSpace(out), "\n")
		for _, line := range lines {
			name, id, _ := strings.Cut(line, " ")
			if name == "" || name == baseImage && len(lines) > 1 {
				continue // it is the parent of the others
			}
			if strings.HasSuffix(name, ":<none>") {
				name = id
			}
			_, err := s.engine.docker(ctx, "image", "rm", name)
			switch {
			case err == nil:
				removed++
			case !isImageInUse(err):
				return err
			}
		}
		if removed == 0 {
			return nil
		}
	}
}

// isImageInUse reports whether an image could not be removed because it is in use.
func isImageInUse(err error) bool {
	for _, words := range []string{"is using its referenced image", "is being used by", "has dependent child images"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}
