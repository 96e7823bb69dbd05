package build

import (
	"regexp"
	"runtime/debug"
	"testing"
)

func TestSource(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	revision := setting("vcs.revision", "0123456789abcdef0123456789abcdef01234567")
	when := setting("vcs.time", "2026-03-04T12:00:00Z")
	for _, c := range []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"no information", nil, ""},
		{"no repository", &debug.BuildInfo{}, ""},
		{"clean", &debug.BuildInfo{Settings: []debug.BuildSetting{revision, when, setting("vcs.modified", "false")}},
			"commit 0123456789ab of 2026-03-04"},
		{"modified", &debug.BuildInfo{Settings: []debug.BuildSetting{revision, when, setting("vcs.modified", "true")}},
			"changed since commit 0123456789ab of 2026-03-04"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sourceOf(c.info).String(); got != c.want {
				t.Errorf("%+v: %q, want %q", c.info, got, c.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	if got := Version("1.2.3~git1"); got != "1.2.3~git1" {
		t.Errorf("Version of a linked version = %q", got)
	}
	if got := Version(""); got != Release() {
		t.Errorf("Version without a linked version = %q, want %q", got, Release())
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(Release()) {
		t.Errorf("Release() = %q, want three numbers", Release())
	}
}
