package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is the state of the checkout that is packaged.
type source struct {
	version string    // of the package
	time    time.Time // of the commit; every file in a package bears it
}

// describe reads the number of the release from the checkout, and the state of the checkout from
// git. A checkout without git needs a version on the command line, and takes its time from
// SOURCE_DATE_EPOCH, or is of now.
func describe(ctx context.Context, top, version string) (source, error) {
	s := source{version: version, time: time.Now()}
	if epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		s.time = time.Unix(epoch, 0)
	} else if text, err := output(ctx, top, nil, "git", "log", "-1", "--format=%ct"); err == nil {
		seconds, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		s.time = time.Unix(seconds, 0)
	}
	s.time = s.time.UTC()
	if s.version == "" {
		text, err := output(ctx, top, nil, "git", "describe", "--tags", "--always", "--dirty", "--match", "v[0-9]*")
		if err != nil {
			return s, fmt.Errorf("no version: %w; give one with -version", err)
		}
		release, err := releaseOf(top)
		if err != nil {
			return s, err
		}
		s.version = debianVersion(release, strings.TrimSpace(text), s.time)
	}
	if !validVersion.MatchString(s.version) {
		return s, fmt.Errorf("%q is not a version of a Debian package: it begins with a digit and has letters, digits "+
			"and . + ~ only", s.version)
	}
	return s, nil
}

// validVersion is an upstream version without an epoch and a Debian revision (Debian
// Policy 5.6.12).
var validVersion = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~]*$`)

// releaseOf returns the number of the release that the checkout states, such as 0.9.0.
func releaseOf(top string) (string, error) {
	text, err := os.ReadFile(filepath.Join(top, "internal/build/VERSION"))
	return strings.TrimSpace(string(text)), err
}

// debianVersion returns the version of a package for what git describes. The tag of the release
// gives the number of the release. Commits after the tag sort after it; commits before it, and a
// history without tags, sort before it.
func debianVersion(release, described string, at time.Time) string {
	described, dirty := strings.CutSuffix(described, "-dirty")
	version, commit := release, ""
	if tag, isTag := strings.CutPrefix(described, "v"); isTag {
		parts := strings.Split(tag, "-")
		if n := len(parts); n >= 3 && strings.HasPrefix(parts[n-1], "g") { // v1.2.3-4-gabcdef0
			parts, commit = parts[:n-2], parts[n-1][1:]
		}
		version = strings.Join(parts, "~") // v1.2.3-rc1 is before 1.2.3
	} else {
		commit = described
	}
	if commit != "" {
		separator := "+"
		if !strings.HasPrefix(described, "v"+release+"-") {
			version, separator = release, "~"
		}
		version += separator + "git" + at.Format("20060102150405") + "." + commit
	}
	if dirty {
		version += "+changed"
	}
	return version
}

// output runs a command to its end and gives what it printed; its error has what it
// said.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(trouble.String()))
	}
	return out.String(), nil
}
