package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
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

// describe asks git. A checkout without git needs a version on the command line, and
// takes its time from SOURCE_DATE_EPOCH, or is of now.
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
		s.version = debianVersion(strings.TrimSpace(text), s.time)
	}
	if !validVersion.MatchString(s.version) {
		return s, fmt.Errorf("%q is no version of a Debian package: it begins with a digit and has letters, digits and . + ~ only", s.version)
	}
	return s, nil
}

// validVersion is an upstream version without an epoch and a Debian revision (Debian
// Policy 5.6.12).
var validVersion = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~]*$`)

// debianVersion makes a version of what git describes: of v1.2.3 that tag, of commits
// after it one that sorts behind it, and of a history without tags one that sorts before
// all.
func debianVersion(described string, at time.Time) string {
	described, dirty := strings.CutSuffix(described, "-dirty")
	stamp := at.Format("20060102150405")
	version, isTag := strings.CutPrefix(described, "v")
	parts := strings.Split(version, "-")
	switch {
	case !isTag:
		version = "0~git" + stamp + "." + described
	case len(parts) >= 3: // v1.2.3-4-gabcdef
		tag := strings.Join(parts[:len(parts)-2], "~")
		version = tag + "+git" + stamp + "." + strings.TrimPrefix(parts[len(parts)-1], "g")
	default: // v1.2.3, or v1.2.3-rc1, which is before 1.2.3
		version = strings.Join(parts, "~")
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
