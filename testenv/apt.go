package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// This file reads the settings of this machine's apt: the harness has no archive address of
// its own.

// hostRelease returns the codename of the Debian release of this machine. Any other system is
// an error.
func hostRelease() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("not a Debian system: %w", err)
	}
	id, codename := osRelease(string(text))
	if id != "debian" {
		return "", fmt.Errorf("debootstrap needs a Debian system, this one is %q", id)
	}
	return codename, nil
}

// osRelease returns ID and VERSION_CODENAME of os-release(5).
func osRelease(text string) (id, codename string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			codename = value
		}
	}
	return id, codename
}

// aptMirror returns the archive of this machine's own Debian release.
func aptMirror(ctx context.Context) (string, error) {
	release, err := hostRelease()
	if err != nil {
		return "", err
	}
	out, err := mustRun(ctx, exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"))
	if err != nil {
		return "", err
	}
	return pickMirror(out, release, os.ReadFile)
}

// pickMirror selects, from lines "RELEASE COMPONENT URI", the archive that has the main
// component of a release. It reads the first line of a mirror list (mirror+file:, as on cloud
// images).
func pickMirror(targets, release string, read func(string) ([]byte, error)) (string, error) {
	for line := range strings.Lines(targets) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[1] != "main" || (fields[0] != release && fields[0] != baseSuite) {
			continue
		}
		uri := fields[2]
		if list, ok := strings.CutPrefix(uri, "mirror+file:"); ok {
			text, err := read(strings.TrimSuffix(list, "/"))
			if err != nil {
				return "", fmt.Errorf("apt mirror list: %w", err)
			}
			first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
			uri, _, _ = strings.Cut(first, "\t")
		}
		return uri, nil
	}
	return "", errors.New("apt has no source with the main component of " + release + "; see `apt-get indextargets`")
}

// aptSettings returns the lines of this machine's apt configuration that control access to an
// archive; none if there is no apt.
func aptSettings(ctx context.Context) []string {
	out, err := mustRun(ctx, exec.CommandContext(ctx, "apt-config", "dump"))
	if err != nil {
		return nil
	}
	return reachSettings(out)
}

// reachSettings selects proxies, retries and validity checks from `apt-config dump`. It skips
// settings that name files: the container does not have the files.
func reachSettings(dump string) []string {
	var settings []string
	scanner := bufio.NewScanner(strings.NewReader(dump))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		name, value, _ := strings.Cut(line, " ")
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "acquire::") || value == `"";` {
			continue
		}
		for _, part := range []string{"::proxy", "::retries", "::timeout", "::forceipv", "::check-valid-until",
			"::check-date"} {
			if strings.Contains(lower, part) && !strings.Contains(lower, "proxy-auto-detect") &&
				!strings.Contains(lower, "proxyautodetect") {
				settings = append(settings, line)
				break
			}
		}
	}
	return settings
}

// aptProxies returns the http_proxy variables that match the settings, for programs that
// download without apt.
func aptProxies(settings []string) []string {
	var env []string
	for _, line := range settings {
		name, value, _ := strings.Cut(line, " ")
		value = strings.Trim(value, `";`)
		switch strings.ToLower(name) {
		case "acquire::http::proxy":
			env = append(env, "http_proxy="+value)
		case "acquire::https::proxy":
			env = append(env, "https_proxy="+value)
		}
	}
	return env
}

// buildArgs returns the docker build options that pass apt settings and proxy variables to a
// build. Only the host network reaches a proxy on this machine's loopback.
func buildArgs(settings, environ []string) []string {
	args := []string{"--build-arg", "APT_CONF=" + strings.Join(settings, "\n")}
	proxies := strings.Join(settings, "\n")
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "no_proxy":
			args = append(args, "--build-arg", variable)
			if !strings.EqualFold(name, "no_proxy") {
				proxies += "\n" + value
			}
		}
	}
	if strings.Contains(proxies, "127.0.0.1") || strings.Contains(proxies, "localhost") {
		args = append(args, "--network", "host")
	}
	return args
}

// AptInstall installs Debian packages on this machine; it needs root.
func AptInstall(ctx context.Context, log io.Writer, packages ...string) error {
	for _, args := range [][]string{{"-q", "update"}, append([]string{"-q", "-y", "install"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		out, err := run(ctx, withOutput(log, cmd))
		if err != nil {
			return err
		}
		if out.Status != 0 {
			return fmt.Errorf("apt-get %s ended with status %d", strings.Join(args, " "), out.Status)
		}
	}
	return nil
}
