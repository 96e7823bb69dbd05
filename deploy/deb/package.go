package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

const description = `recipients for Postfix, from an index of Active Directory
 A daemon on the smtpd_milters of Postfix. It answers each RCPT TO from an
 index on local disk, which has changes of Active Directory within seconds,
 and rejects unknown recipients. If it cannot tell whether a recipient exists,
 it defers the mail, so a valid recipient is never rejected. It keeps
 answering while the directory is down.`

// maintainer returns the name and address of the package's maintainer: from the environment
// variables of Debian's own tools, or else from the file MAINTAINERS.
func (b *builder) maintainer() (string, error) {
	if name, mail := os.Getenv("DEBFULLNAME"), os.Getenv("DEBEMAIL"); name != "" && mail != "" {
		return name + " <" + mail + ">", nil
	}
	text, err := os.ReadFile(filepath.Join(b.top, "MAINTAINERS"))
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if _, err := mail.ParseAddress(first); err != nil {
		return "", fmt.Errorf("MAINTAINERS: the first line must be \"NAME <ADDRESS>\": %w", err)
	}
	return first, nil
}

// pack writes the package for one architecture into the directory.
func (b *builder) pack(ctx context.Context, arch, out string) (string, error) {
	binary, err := b.compile(ctx, arch)
	if err != nil {
		return "", err
	}
	contents, err := b.contents(binary)
	if err != nil {
		return "", err
	}
	maintainer, err := b.maintainer()
	if err != nil {
		return "", err
	}
	scripts := filepath.Join(b.top, "deploy/deb/scripts")
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "rcpt-milter", Arch: arch, Platform: "linux", Version: b.version, VersionSchema: "none",
		Section: "mail", Priority: "optional", Maintainer: maintainer, License: licenceID, Description: description,
		MTime: b.time,
		Overridables: nfpm.Overridables{
			Depends: []string{"adduser", "ca-certificates", "init-system-helpers (>= 1.54~)",
				"systemd | systemd-standalone-sysusers | opensysusers"},
			Recommends: []string{"postfix"},
			Suggests:   []string{"prometheus", "bash-completion"},
			Contents:   contents,
			Scripts: nfpm.Scripts{PostInstall: filepath.Join(scripts, "postinst"),
				PreRemove: filepath.Join(scripts, "prerm"), PostRemove: filepath.Join(scripts, "postrm")},
			// Postfix may come later, and with it the group that the daemon has to be in.
			Deb: nfpm.Deb{Triggers: nfpm.DebTriggers{InterestNoAwait: []string{"/usr/lib/postfix/sbin/master"}}},
		},
	})
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return "", err
	}
	path := filepath.Join(out, deb.Default.ConventionalFileName(info))
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := deb.Default.Package(info, file); err != nil {
		file.Close()
		os.Remove(path)
		return "", err
	}
	return path, file.Close()
}

// contents are the files of the package. The group of the configuration is given to it by
// the maintainer script, which makes it.
func (b *builder) contents(binary string) (files.Contents, error) {
	deploy := filepath.Join(b.top, "deploy")
	const doc, examples = "/usr/share/doc/rcpt-milter/", "/usr/share/doc/rcpt-milter/examples/"
	list := files.Contents{
		b.file(binary, "/usr/bin/rcpt-milter", 0o755),
		b.directory("/etc/rcpt-milter", 0o750),
		b.config(filepath.Join(deploy, "config.yaml"), "/etc/rcpt-milter/config.yaml", 0o640),
		b.file(filepath.Join(deploy, "systemd/rcpt-milter.service"), "/lib/systemd/system/rcpt-milter.service", 0o644),
		b.file(filepath.Join(deploy, "systemd/rcpt-milter.socket"), "/lib/systemd/system/rcpt-milter.socket", 0o644),
		b.file(filepath.Join(deploy, "systemd/rcpt-milter.sysusers"), "/usr/lib/sysusers.d/rcpt-milter.conf", 0o644),
		b.file(filepath.Join(deploy, "systemd/rcpt-milter.tmpfiles"), "/usr/lib/tmpfiles.d/rcpt-milter.conf", 0o644),
		b.file(filepath.Join(b.stage, "completion.bash"), "/usr/share/bash-completion/completions/rcpt-milter", 0o644),
		b.file(filepath.Join(b.stage, "completion.zsh"), "/usr/share/zsh/vendor-completions/_rcpt-milter", 0o644),
		b.file(filepath.Join(b.stage, "completion.fish"), "/usr/share/fish/vendor_completions.d/rcpt-milter.fish",
			0o644),
		b.file(filepath.Join(b.stage, "changelog.gz"), doc+"changelog.gz", 0o644),
		b.file(filepath.Join(b.stage, "copyright"), doc+"copyright", 0o644),
		b.file(filepath.Join(b.stage, "NEWS.gz"), doc+"NEWS.gz", 0o644),
		b.file(filepath.Join(b.stage, sbomName), doc+sbomName, 0o644),
		b.file(filepath.Join(deploy, "config.yaml"), examples+"config.yaml", 0o644),
		b.file(filepath.Join(deploy, "prometheus/rcpt-milter.rules.yml"), examples+"prometheus/rcpt-milter.rules.yml",
			0o644),
		b.file(filepath.Join(deploy, "exchange-online/export.ps1"), examples+"exchange-online/export.ps1", 0o644),
		b.file(filepath.Join(deploy, "exchange-online/accept-file"), examples+"exchange-online/accept-file", 0o755),
		b.file(filepath.Join(deploy, "grafana/rcpt-milter.json"), examples+"grafana/rcpt-milter.json", 0o644),
		b.file(filepath.Join(deploy, "deb/lintian-overrides"), "/usr/share/lintian/overrides/rcpt-milter", 0o644),
	}
	pages, err := filepath.Glob(filepath.Join(b.stage, "man", "*", "*.gz"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		list = append(list,
			b.file(page, filepath.Join("/usr/share/man", filepath.Base(filepath.Dir(page)), filepath.Base(page)),
				0o644))
	}
	guides, err := filepath.Glob(filepath.Join(b.top, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for _, guide := range guides {
		list = append(list, b.file(guide, doc+filepath.Base(guide), 0o644))
	}
	return list, nil
}

func (b *builder) file(from, to string, mode fs.FileMode) *files.Content {
	return &files.Content{Source: from, Destination: to, FileInfo: b.info(mode)}
}

// config is a file that belongs to the administrator once it is installed: dpkg asks
// before it replaces one that was changed.
func (b *builder) config(from, to string, mode fs.FileMode) *files.Content {
	c := b.file(from, to, mode)
	c.Type = files.TypeConfigNoReplace
	return c
}

func (b *builder) directory(path string, mode fs.FileMode) *files.Content {
	return &files.Content{Destination: path, Type: files.TypeDir, FileInfo: b.info(mode)}
}

func (b *builder) info(mode fs.FileMode) *files.ContentFileInfo {
	return &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: b.time}
}
