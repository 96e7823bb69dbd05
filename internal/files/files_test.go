package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"
)

// write makes a file that has been there for a while, and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	put(t, path, content, time.Now().Add(-time.Hour))
	return path
}

func put(t *testing.T, path, content string, modified time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

// wide encodes text in UTF-16.
func wide(text string, bigEndian bool) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(text)) {
		first, second := byte(u), byte(u>>8)
		if bigEndian {
			first, second = second, first
		}
		b.WriteByte(first)
		b.WriteByte(second)
	}
	return b.String()
}

// contents of password files, and what is read; want empty: an error that contains problem.
var contents = []struct{ name, content, want, problem string }{
	{"a line", "secret\n", "secret", ""},
	{"no end of line", "secret", "secret", ""},
	{"end of line of Windows", "secret\r\n", "secret", ""},
	{"end of line of old", "secret\r", "secret", ""},
	{"several ends of line", "secret\n\n\r\n", "secret", ""},
	{"byte order mark", "\ufeffsecret\r\n", "secret", ""},
	{"spaces", " pass word \n", " pass word ", ""},
	{"no-break space", "\u00a0secret\u00a0\n", "\u00a0secret\u00a0", ""},
	{"beyond ASCII", "pässwörd 密码\n", "pässwörd 密码", ""},
	{"one character", "x", "x", ""},
	{"byte order mark inside", "se\ufeffcret", "se\ufeffcret", ""},
	{"empty", "", "", "is empty; write the password into it, as its only line"},
	{"nothing but ends of line", "\r\n\n", "", "is empty; write the password into it, as its only line"},
	{"nothing but a mark", "\ufeff\r\n", "", "is empty"},
	{"two lines", "one\ntwo\n", "", "has more than one line; the password must be its only line"},
	{"two lines of Windows", "one\r\ntwo\r\n", "", "has more than one line"},
	{"two lines of old", "one\rtwo\r", "", "has more than one line"},
	{"an empty line first", "\nsecret\n", "", "has more than one line"},
	{"a line of spaces after it", "secret\n  \n", "", "has more than one line"},
	{"mark and two lines", "\ufeffone\ntwo", "", "has more than one line"},
	{"UTF-16 with mark", "\xff\xfe" + wide("secret\r\n", false), "", "is in UTF-16, as PowerShell and Notepad write " +
		"it; convert it to UTF-8: printf"},
	{"UTF-16 big-endian with mark", "\xfe\xff" + wide("secret\r\n", true), "", "iconv -f UTF-16 -t UTF-8"},
	{"UTF-16", wide("secret\r\n", false), "", "iconv -f UTF-16LE -t UTF-8"},
	{"UTF-16 big-endian", wide("pässwörd", true), "", "iconv -f UTF-16BE -t UTF-8"},
	{"nothing but a mark of UTF-16", "\xff\xfe", "", "is in UTF-16"},
	{"UTF-16 beyond ASCII", wide("пароль", false), "", "holds the control character U+0004"},
	{"UTF-32", "\xff\xfe\x00\x00s\x00\x00\x00", "", "iconv -f UTF-32 -t UTF-8"},
	{"zeros", "sec\x00\x00ret", "", "holds bytes of value zero"},
	{"a zero at the end", "secret\x00\n", "", "holds bytes of value zero"},
	{"a zero and no end of line", "secre\x00", "", "holds bytes of value zero"},
	{"Latin-1", "geh\xe4im", "", "is not in UTF-8; if it is in Windows-1252, convert it: printf"},
	{"an arrow key", "secret\x1b[D", "", "holds the control character U+001B"},
	{"too long", strings.Repeat("x", MaxPassword+1), "", "is larger than 4 KiB"},
	{"as long as can be", strings.Repeat("x", MaxPassword), strings.Repeat("x", MaxPassword), ""},
}

func TestPassword(t *testing.T) {
	for _, c := range contents {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "password", c.content)
			got, err := Password(path)
			if string(got) != c.want || (err == nil) != (c.problem == "") {
				t.Fatalf("Password = %q, %v, want %q, %q", got, err, c.want, c.problem)
			}
			if err == nil {
				return
			}
			if text := err.Error(); !strings.HasPrefix(text, "the password file "+path+" ") ||
				!strings.Contains(text, c.problem) {
				t.Errorf("error %q, want %q", text, c.problem)
			}
			shown := strings.ReplaceAll(err.Error(), path, "")
			if strings.Contains(shown, "secret") || strings.Contains(shown, "geh") {
				t.Errorf("the error tells what is in the file: %v", err)
			}
		})
	}
}

// TestConversion runs the command that an error names; it keeps the mode of the file.
func TestConversion(t *testing.T) {
	if _, err := exec.LookPath("iconv"); err != nil {
		t.Skip("there is no iconv here")
	}
	const password = `p%s ä"\n`
	for name, content := range map[string]string{
		"UTF-16": "\xff\xfe" + wide(password+"\r\n", false), "UTF-16BE": wide(password+"\r\n", true),
		"UTF-16LE": wide(password, false), "Windows-1252": "p%s \xe4\"\\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "it's the password", content)
			_, err := Password(path)
			if err == nil {
				t.Fatal("it is read as it is")
			}
			_, command, _ := strings.Cut(err.Error(), "printf ")
			if out, err := exec.Command("sh", "-c", "printf "+command).CombinedOutput(); err != nil {
				t.Fatalf("printf %s: %v\n%s", command, err, out)
			}
			if got, err := Password(path); err != nil || string(got) != password {
				t.Errorf("after printf %s: %q, %v", command, got, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestDoubts(t *testing.T) {
	for _, c := range []struct {
		password string
		want     []string
	}{
		{"secret", nil},
		{"pass word", nil},
		{`"`, nil},
		{"secret ", []string{"begins or ends with a space"}},
		{" secret", []string{"begins or ends with a space"}},
		{"secret\u00a0", []string{"holds the white space U+00A0"}},
		{"se\tcret", []string{"holds the white space U+0009"}},
		{"se\u200bcr\u200bet", []string{"holds the invisible character U+200B"}},
		{"se\u00adcret\ufeff", []string{"holds the invisible character U+00AD",
			"holds the invisible character U+FEFF"}},
		{`"secret"`, []string{"stands in quotation marks"}},
	} {
		t.Run(fmt.Sprintf("%q", c.password), func(t *testing.T) {
			var want []string
			for _, w := range c.want {
				want = append(want, w+", which counts as part of the password")
			}
			if got := Doubts(c.password); !slices.Equal(got, want) {
				t.Errorf("Doubts(%q) = %q, want %q", c.password, got, want)
			}
		})
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "does not exist", dir: "is not a regular file", pipe: "is not a regular file",
		"/dev/zero": "is not a regular file",
	} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := Password(path)
			if err == nil || err.Error() != "the password file "+path+" "+want {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
			if missing := want == "does not exist"; errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("%s: errors.Is(%v, fs.ErrNotExist) = %v", path, err, !missing)
			}
		})
	}
	if os.Geteuid() != 0 {
		path := write(t, "password", "secret")
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Password(path); err == nil || !strings.Contains(err.Error(), "cannot be read by this user") {
			t.Errorf("without the right: %v", err)
		}
	}
}

// TestFileBeingWritten: what a file holds in the middle of being written is never used.
func TestFileBeingWritten(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name  string
		steps []string // the content now, and after each pause
		want  string
		err   string
	}{
		{"emptied first", []string{"", "new password\n"}, "new password", ""},
		{"in two parts", []string{"new pass", "new password\n"}, "new password", ""},
		{"in several parts", []string{"", "n", "ne", "new\n"}, "new", ""},
		{"still empty", []string{""}, "", "is empty"},
		{"still bad", []string{"one\ntwo\n"}, "", "has more than one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, now, step := filepath.Join(t.TempDir(), "password"), start, 0
			put(t, path, c.steps[0], now)
			r := reader{now: func() time.Time { return now }, sleep: func(d time.Duration) {
				if d <= 0 || d > settleTime {
					t.Errorf("a pause of %s", d)
				}
				now = now.Add(d)
				if step++; step < len(c.steps) {
					put(t, path, c.steps[step], now)
				}
			}}
			got, err := r.password(path)
			if string(got) != c.want || (err == nil) != (c.err == "") || err != nil &&
				!strings.Contains(err.Error(), c.err) {
				t.Errorf("Password = %q, %v, want %q, %q", got, err, c.want, c.err)
			}
			if want := max(len(c.steps), 1); step != want {
				t.Errorf("%d pauses, want %d", step, want)
			}
		})
	}
}

// TestFileThatKeepsChanging: it is an error, after a second at most.
func TestFileThatKeepsChanging(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "password"), time.Now()
	put(t, path, "0", now)
	var waited time.Duration
	r := reader{now: func() time.Time { return now }, sleep: func(d time.Duration) {
		waited += d
		now = now.Add(d)
		put(t, path, fmt.Sprint(waited), now)
	}}
	if got, err := r.password(path); err == nil || !strings.Contains(err.Error(), "changes all the time") {
		t.Errorf("Password = %q, %v", got, err)
	}
	if waited > time.Second {
		t.Errorf("waited %s", waited)
	}
}

// TestFileFromTheFuture: a file that was written by a clock ahead of ours waits for nothing.
func TestFileFromTheFuture(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "password"), time.Now()
	put(t, path, "secret", now.Add(time.Hour))
	r := reader{now: func() time.Time { return now }, sleep: func(d time.Duration) { t.Errorf("a pause of %s", d) }}
	if got, err := r.password(path); err != nil || string(got) != "secret" {
		t.Errorf("Password = %q, %v", got, err)
	}
}
