package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// settingsBlock is a block of YAML, or an indented block that begins with a key of ours;
// settingSpan is a key and its value within a line.
var (
	settingsBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	indented      = regexp.MustCompile(`(?m)(?:^    [a-z0-9_]+: .*\n)+`)
	settingSpan   = regexp.MustCompile("`([a-z0-9_.]+: [^`\n]+)`")
)

// theirs begins texts that look like settings of ours and are not: they belong to LDIF,
// Prometheus or the status.
var theirs = []string{"dn: ", "changetype: ", "rule_files: ", "scrape_configs:", "deleted_objects_visible: ",
	"its removals ", `bases: "…" does`}

// TestDocumentedSettings: the parser accepts every setting that the documents show, together
// with the keys that it needs.
func TestDocumentedSettings(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil || len(documents) < 5 {
		t.Fatalf("documents %q: %v", documents, err)
	}
	blocks, spans := 0, 0
	for _, path := range append(documents, "../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		document := string(text)
		for _, m := range settingsBlock.FindAllStringSubmatch(document, -1) {
			blocks++
			if err := taken(m[1]); err != nil {
				t.Errorf("%s: %v, in\n%s", path, err, m[1])
			}
		}
		document = settingsBlock.ReplaceAllString(document, "")
		for _, m := range indented.FindAllString(document, -1) {
			block := strings.ReplaceAll(m[4:], "\n    ", "\n")
			if isTheirs(block) {
				continue
			}
			blocks++
			if err := taken(block); err != nil {
				t.Errorf("%s: %v, in\n%s", path, err, block)
			}
		}
		for _, m := range settingSpan.FindAllStringSubmatch(document, -1) {
			if isTheirs(m[1]) {
				continue
			}
			spans++
			if err := taken(m[1]); err != nil {
				t.Errorf("%s: `%s`: %v", path, m[1], err)
			}
		}
	}
	if blocks < 8 || spans < 15 {
		t.Errorf("only %d blocks and %d settings found", blocks, spans)
	}
}

func isTheirs(text string) bool {
	return slices.ContainsFunc(theirs, func(begin string) bool { return strings.HasPrefix(text, begin) })
}

// taken gives settings to the parser, as those of the file, of a directory, or of how it
// is bound to, which is clear from the text around them.
func taken(settings string) error {
	settings = strings.ReplaceAll(strings.ReplaceAll(settings, "server_name: …", "server_name: dc1.corp.example"), "…",
		"/etc/there")
	if regexp.MustCompile(`^[a-z.]+\.[a-z]+: (enforce|report|pass)$`).MatchString(settings) {
		settings = "domains: {" + settings + "}"
	}
	if m := regexp.MustCompile(`^([a-z_]+)\.([a-z_]+): (.*)$`).FindStringSubmatch(settings); m != nil {
		settings = m[1] + ": {" + m[2] + ": " + m[3] + "}"
	}
	_, err := Parse("whole", []byte(completed(settings, map[string]string{
		"domains": "domains: {corp.example: enforce, .example.com: report}\n", "directories": "directories:\n  " +
			"- " + directoryWith("")})))
	if err != nil && strings.Contains(err.Error(), "unknown key") {
		err = inDirectory(settings)
	}
	if err != nil && strings.Contains(err.Error(), "unknown key") &&
		inDirectory("bind: {dn: svc-mail@corp.example, "+settings+"}") == nil {
		return nil
	}
	return err
}

func inDirectory(settings string) error {
	_, err := Parse("directory", []byte("domains: {corp.example: enforce}\ndirectories:\n  - "+directoryWith(settings)))
	return err
}

// directoryWith is a directory with these settings and what else it needs.
func directoryWith(settings string) string {
	needed := map[string]string{"name": "name: corp\n", "urls": "urls: [ldaps://dc1.corp.example]\n",
		"bind": "bind: {dn: svc-mail@corp.example, password_file: /etc/rcpt-milter/password}\n"}
	if strings.HasPrefix(settings, "discover: ") {
		delete(needed, "urls")
	}
	return strings.TrimSuffix(strings.ReplaceAll(completed(settings, needed), "\n", "\n    "), "    ")
}

// completed adds what settings do not have.
func completed(settings string, needed map[string]string) string {
	settings = strings.TrimSuffix(settings, "\n") + "\n"
	for key, text := range needed {
		if !regexp.MustCompile(`(?m)^` + key + `:`).MatchString(settings) {
			settings = text + settings
		}
	}
	return strings.TrimLeft(settings, "\n")
}

// TestTaken: the test above can fail.
func TestTaken(t *testing.T) {
	for settings, want := range map[string]bool{
		"poll: 5s": true, "confirm: {enabled: true}": true, "page.serve: always": true, "password_file: " +
			"/etc/x": true, "pasword_file: /etc/x": false, "discover: corp.example\nsite: Edge\n": true,
		"pol: 5s": false, "poll: soon": false, "confirm: {enable: true}": false, "page.server: always": false,
		"bind: {dn: a}": false, "listen: fd:": false,
	} {
		if err := taken(settings); (err == nil) != want {
			t.Errorf("%s: %v, want taken: %t", settings, err, want)
		}
	}
}
