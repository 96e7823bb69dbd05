// Package exchangeonline tests the scripts that carry recipients of Exchange Online into an accept
// file.
package exchangeonline

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rcpt-milter/postfix/table"
)

// convert runs the script and returns what it prints.
func convert(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("TESTENV") == "require" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v; install python3 to test the script", err)
	}
	var out bytes.Buffer
	command := exec.CommandContext(t.Context(), "python3", append([]string{"./accept-file"}, args...)...)
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	return out.String(), err
}

// saved is the saved export, as of a time.
func saved(t *testing.T, at time.Time) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/export.json")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(text, []byte("2026-11-28T04:00:00Z"), []byte(at.UTC().Format(time.RFC3339)), 1)
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptFile: the daemon reads what the script makes of a saved export.
func TestAcceptFile(t *testing.T) {
	export, target := filepath.Join(t.TempDir(), "export.json"), filepath.Join(t.TempDir(), "cloud")
	writeFile(t, export, saved(t, time.Now()))
	out, err := convert(t, "--domains", "example.com,example.org", export, target)
	if err != nil || !strings.Contains(out, ": 10 addresses of 9 recipients, 0 before, 0 left out") {
		t.Fatalf("%v, %s", err, out)
	}
	text, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	const want = `"two words"@example.com OK
ann.example@example.com OK
ann@example.com OK
everyone@example.com OK
folder@example.org OK
info@example.com OK
o'brien+x@example.com OK
partner@example.com OK
project@example.com OK
zürich@example.com OK
`
	header, entries, _ := strings.Cut(string(text), "\n")
	if entries != want || !strings.HasPrefix(header, "# exported 20") {
		t.Errorf("the accept file is\n%s\nwant\n%s", text, want)
	}
	read, err := table.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(want) {
		address := strings.TrimSuffix(line, " OK\n")
		if !read.Has(address) {
			t.Errorf("the daemon does not find %s", address)
		}
	}
	if out, err := convert(t, "--check", target); err != nil {
		t.Errorf("--check of a new file: %v, %s", err, out)
	}
	if out, err := convert(t, "--check", "--max-age", "0m", target); err == nil {
		t.Errorf("--check of an old file: %s", out)
	}
}

// TestAcceptFileRefuses: a bad export leaves the accept file as it is, byte by byte.
func TestAcceptFileRefuses(t *testing.T) {
	now := time.Now()
	good := string(saved(t, now))
	old := "# exported 2026-01-01T00:00:00Z\n" + strings.Repeat("x", 3) + "@example.com OK\n"
	for _, c := range []struct {
		name, export, want string
		args               []string
	}{
		{"truncated", good[:len(good)/2], "not complete JSON", nil},
		{"empty", "", "not complete JSON", nil},
		{"not UTF-8", "\xff\xfe{}", "not complete JSON", nil},
		{"nested", strings.Repeat("[", 100_000), "not complete JSON", nil},
		{"a list", "[]", "no list of recipients", nil},
		{"recipients cut", strings.Replace(good, `"count":9`, `"count":10`, 1), "has 9 recipients, and says", nil},
		{"no count", strings.Replace(good, `"count":9,`, "", 1), "has 9 recipients, and says", nil},
		{"no time", strings.Replace(good, `"exported"`, `"x"`, 1), "does not say when", nil},
		{"a number for a time", strings.Replace(good, `"exported":"`, `"exported":1,"x":"`, 1), "does not say when",
			nil},
		{"old", string(saved(t, now.Add(-27*time.Hour))), "27 h old", nil},
		{"from the future", string(saved(t, now.Add(2*time.Hour))), "from the future", nil},
		{"no address of the domains", good, "no address in other.example", []string{"--domains", "other.example"}},
		{"a number for an address", strings.Replace(good, `"SMTP:info@example.com"`, "1", 1), "not a text", nil},
		{"no addresses", strings.Replace(good, `"addresses":["SMTP:everyone@example.com"]`, `"x":1`, 1), "no list",
			nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			export, target := filepath.Join(dir, "export.json"), filepath.Join(dir, "cloud")
			writeFile(t, export, []byte(c.export))
			writeFile(t, target, []byte(old))
			args := append([]string{"--domains", "example.com,example.org"}, c.args...)
			out, err := convert(t, append(args, export, target)...)
			if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, "Traceback") {
				t.Errorf("%v, %s, want %q", err, out, c.want)
			}
			if text, _ := os.ReadFile(target); string(text) != old {
				t.Errorf("the accept file is now\n%s", text)
			}
			if files, _ := os.ReadDir(dir); len(files) != 2 {
				t.Errorf("files left behind: %v", files)
			}
		})
	}
}

// TestAcceptFileShrinks: an export with far fewer addresses needs an order.
func TestAcceptFileShrinks(t *testing.T) {
	dir := t.TempDir()
	export, target := filepath.Join(dir, "export.json"), filepath.Join(dir, "cloud")
	var before strings.Builder
	for i := range 20 {
		fmt.Fprintf(&before, "user%d@example.com OK\n", i)
	}
	writeFile(t, export, saved(t, time.Now()))
	writeFile(t, target, []byte(before.String()))
	if out, err := convert(t, "--domains", "example.com", export, target); err == nil ||
		!strings.Contains(out, "--force") {
		t.Errorf("%v, %s", err, out)
	}
	if out, err := convert(t, "--domains", "example.com", "--force", export, target); err != nil {
		t.Errorf("with --force: %v, %s", err, out)
	}
}

// FuzzAcceptFile: whatever an export has, each line of the accept file is one address of the domains,
// and the script ends with a message of its own.
func FuzzAcceptFile(f *testing.F) {
	now := time.Now().UTC().Format(time.RFC3339)
	f.Add("SMTP:ann@example.com")
	f.Add("smtp:a b@example.com")
	f.Add("smtp:\\u0000@example.com")
	f.Add("smtp:a@example.com\\nroot@example.com OK")
	f.Add(`smtp:x@example.com","smtp:#@example.com`)
	f.Add("smtp:\\ud800@example.com")
	f.Fuzz(func(t *testing.T, value string) {
		dir := t.TempDir()
		export, target := filepath.Join(dir, "export.json"), filepath.Join(dir, "cloud")
		writeFile(t, export,
			[]byte(`{"exported":"`+now+`","count":1,"recipients":[{"addresses":["smtp:safe@example.com","`+
				value+`"]}]}`))
		out, err := convert(t, "--domains", "example.com", export, target)
		if strings.Contains(out, "Traceback") {
			t.Fatalf("%q: %s", value, out)
		}
		text, readErr := os.ReadFile(target)
		if (readErr == nil) != (err == nil) {
			t.Fatalf("%q: %v, but the accept file: %v", value, err, readErr)
		}
		read, err := table.Read(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(text), " OK\n"); read.Len() > lines {
			t.Errorf("%q: %d lines, %d entries:\n%s", value, lines, read.Len(), text)
		}
		for key := range read.All() {
			if local, ours := strings.CutSuffix(key, "@example.com"); !ours || local == "" {
				t.Errorf("%q makes the entry %q", value, key)
			}
		}
	})
}

// TestAcceptFileSpecialLocals: valid recipients with special characters are in the accept file, in a
// form that the daemon reads.
func TestAcceptFileSpecialLocals(t *testing.T) {
	for _, c := range []struct{ exported, want string }{
		{"sales#1", "sales#1"}, {"#sales", "#sales"}, {`\"two words\"`, `"two words"`}, {"two words", `"two words"`},
		{"a(b)", `"a(b)"`}, {`\"a\\\"b\"`, `"a\"b"`}, {"ann_x.test#EXT#", "ann_x.test#ext#"}, {`\"plain\"`, "plain"},
		{`c\u0007d`, ""}, {`a\"b`, `"a\"b"`},
	} {
		t.Run(c.exported, func(t *testing.T) {
			export, target := filepath.Join(t.TempDir(), "export.json"), filepath.Join(t.TempDir(), "cloud")
			text := `{"exported":"` + time.Now().UTC().Format(time.RFC3339) +
				`","count":1,"recipients":[{"addresses":["smtp:` +
				c.exported + `@example.com","smtp:other@example.com"]}]}`
			writeFile(t, export, []byte(text))
			if out, err := convert(t, "--domains", "example.com", export, target); err != nil {
				t.Fatal(err, out)
			}
			read, err := table.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			if problems, _ := read.Problems(); len(problems) > 0 {
				t.Error(problems)
			}
			if want := c.want + "@example.com"; c.want != "" && !read.Has(want) || c.want == "" && read.Len() != 1 {
				text, _ := os.ReadFile(target)
				t.Errorf("no %s in\n%s", want, text)
			}
		})
	}
}

// TestAcceptFileDomains: a domain means the same with U-labels and with A-labels, in the export and on the command
// line.
func TestAcceptFileDomains(t *testing.T) {
	const a, u = "xn--mnchen-3ya.example", "München.example"
	for _, c := range []struct{ name, domains, inExport string }{
		{"U-labels", u, u}, {"A-labels", strings.ToUpper(a), a}, {"U-labels in the export", a, u},
		{"U-labels on the command line", u, strings.ToUpper(a)},
	} {
		t.Run(c.name, func(t *testing.T) {
			export, target := filepath.Join(t.TempDir(), "export.json"), filepath.Join(t.TempDir(), "cloud")
			writeFile(t, export, fmt.Appendf(nil,
				`{"exported":%q,"count":1,"recipients":[{"addresses":["SMTP:ann@%s"]}]}`,
				time.Now().UTC().Format(time.RFC3339), c.inExport))
			if out, err := convert(t, "--domains", c.domains, export, target); err != nil {
				t.Fatalf("%v, %s", err, out)
			}
			if text, err := os.ReadFile(target); err != nil || !strings.Contains(string(text), "\nann@"+a+" OK\n") {
				t.Errorf("%v: the accept file is\n%s", err, text)
			}
		})
	}
	for _, bad := range []string{strings.Repeat("ü", 70) + ".example", "ü..example", "\u200b.example"} {
		out, err := convert(t, "--domains", bad, "export", "target")
		if err == nil || !strings.Contains(out, "expected mail domains") {
			t.Errorf("--domains %q: %v, %s", bad, err, out)
		}
	}
}

// TestAcceptFileAge: the accept file is as old as its export, for accept_files_max_age, and never from the future.
func TestAcceptFileAge(t *testing.T) {
	for _, c := range []struct {
		name     string
		exported time.Duration // from now
		want     time.Duration // of the file, from now
	}{
		{"an hour old", -time.Hour, -time.Hour}, {"by a clock that is ahead", 30 * time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			export, target := filepath.Join(t.TempDir(), "export.json"), filepath.Join(t.TempDir(), "cloud")
			writeFile(t, export, saved(t, now.Add(c.exported)))
			if out, err := convert(t, "--domains", "example.com", export, target); err != nil {
				t.Fatalf("%v, %s", err, out)
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Fatal(err)
			}
			earliest := now.Add(c.want).Truncate(time.Second)
			latest := earliest.Add(time.Second)
			if c.want == 0 {
				latest = time.Now()
			}
			if m := info.ModTime(); m.Before(earliest) || m.After(latest) {
				t.Errorf("modified %v, want from %v to %v", m, earliest, latest)
			}
		})
	}
}

// TestAcceptFileLostDomain: an export without any address of a domain that the accept file has is
// refused, however small the domain is.
func TestAcceptFileLostDomain(t *testing.T) {
	export, target := filepath.Join(t.TempDir(), "export.json"), filepath.Join(t.TempDir(), "cloud")
	writeFile(t, export, saved(t, time.Now()))
	text := "# exported 2026-01-01T00:00:00Z\n" + `"a b"@small.example OK` + "\n"
	writeFile(t, target, []byte(text))
	args := []string{"--domains", "example.com,example.org,small.example", export, target}
	if out, err := convert(t, args...); err == nil || !strings.Contains(out, "small.example") {
		t.Errorf("%v, %s", err, out)
	}
	if after, _ := os.ReadFile(target); string(after) != text {
		t.Errorf("the accept file is\n%s", after)
	}
	if out, err := convert(t, append([]string{"--force"}, args...)...); err != nil {
		t.Errorf("--force: %v, %s", err, out)
	}
	if out, err := convert(t, "--domains", "example.com", export, target); err != nil { // left out on purpose
		t.Errorf("%v, %s", err, out)
	}
}
