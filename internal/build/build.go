// Package build describes the sources and the version of the running program, as the Go
// toolchain recorded them.
package build

import (
	_ "embed"
	"fmt"
	"runtime/debug"
	"strings"
)

//go:embed VERSION
var release string

// Release returns the number of this release, such as 0.9.0, or of the next one (Semantic Versioning
// 2.0.0). The file VERSION is the only place that states it.
func Release() string { return strings.TrimSpace(release) }

// Version returns the version that was set at link time, which packages do, or else Release.
func Version(linked string) string {
	if linked != "" {
		return linked
	}
	return Release()
}

// UserAgent names the program in its HTTP requests (RFC 9110 section 10.1.5).
func UserAgent() string { return "rcpt-milter/" + Release() }

// Source is the state of the sources. It is zero in tests and with -buildvcs=false.
type Source struct {
	Commit   string
	Time     string // of the commit, RFC 3339
	Modified bool   // with changes that are not committed
}

// ReadSource returns the state of the sources of the running program.
func ReadSource() Source {
	info, _ := debug.ReadBuildInfo()
	return sourceOf(info)
}

func sourceOf(info *debug.BuildInfo) Source {
	var s Source
	if info == nil {
		return s
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			s.Commit = setting.Value
		case "vcs.time":
			s.Time = setting.Value
		case "vcs.modified":
			s.Modified = setting.Value == "true"
		}
	}
	return s
}

// String returns the state as "commit 0123456789ab of 2026-03-04", or "" if it is unknown.
func (s Source) String() string {
	if s.Commit == "" {
		return ""
	}
	day, _, _ := strings.Cut(s.Time, "T")
	text := fmt.Sprintf("commit %.12s of %s", s.Commit, day)
	if s.Modified {
		text = "changed since " + text
	}
	return text
}
