package text

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestShellQuoted(t *testing.T) {
	for word, want := range map[string]string{
		"": "''", "/etc/a-b_c.d": "/etc/a-b_c.d", "x=inet:[::1]:25": "'x=inet:[::1]:25'", "a b": "'a b'",
		"it's": `'it'\''s'`,
	} {
		t.Run(word, func(t *testing.T) {
			if got := ShellQuoted(word); got != want {
				t.Errorf("ShellQuoted(%q) = %s, want %s", word, got, want)
			}
		})
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want string
	}{
		{0, "0 objects"}, {1, "1 object"}, {2, "2 objects"}, {999, "999 objects"}, {1000, "1,000 objects"},
		{1234567, "1,234,567 objects"}, {-1, "-1 objects"}, {-123, "-123 objects"}, {-1234, "-1,234 objects"},
		{math.MinInt64, "-9,223,372,036,854,775,808 objects"},
	} {
		t.Run(c.want, func(t *testing.T) {
			if got := Count(c.n, "object", "objects"); got != c.want {
				t.Errorf("Count(%d) = %q", c.n, got)
			}
		})
	}
	if got := NumberBy(12345, "_"); got != "12_345" {
		t.Errorf("NumberBy = %q", got)
	}
}

func TestList(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{nil, ""}, {[]string{"a"}, "a"}, {[]string{"a", "b"}, "a and b"}, {[]string{"a", "b", "c"}, "a, b and c"},
		{[]string{"a", "b", "c", "d", "e"}, "a, b, c and 2 more"},
	} {
		if got := List(c.words, 3); got != c.want {
			t.Errorf("List(%q, 3) = %q, want %q", c.words, got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		in   time.Duration
		want string
	}{
		{0, "less than a second"}, {999 * time.Millisecond, "less than a second"}, {time.Second, "1 second"},
		{119 * time.Second, "119 seconds"}, {2 * time.Minute, "2 minutes"}, {119 * time.Minute, "119 minutes"},
		{2 * time.Hour, "2 hours"}, {47 * time.Hour, "47 hours"}, {48 * time.Hour, "2 days"},
		{400 * 24 * time.Hour, "400 days"},
		{-time.Hour, "less than a second"},
	} {
		t.Run(c.in.String(), func(t *testing.T) {
			if got := Duration(c.in); got != c.want {
				t.Errorf("Duration(%v) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[time.Duration]string{
		-3 * time.Hour: "3 hours ago", 0: "less than a second ago", 5 * time.Minute: "in 5 minutes",
	} {
		if got := Age(now, now.Add(in)); got != want {
			t.Errorf("Age(%v) = %q, want %q", in, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "plain ünïcode 字", "plain ünïcode 字"},
		{"replacement character", "\ufffd", "\ufffd"},
		{"tab", "a\tb", `a\tb`},
		{"line", "a\nb\rc", `a\nb\rc`},
		{"colour", "\x1b[0m", `\x1b[0m`},
		{"delete", "\x7f", `\x7f`},
		{"C1", "\u009b0m", `\u009b0m`},
		{"not UTF-8", "ü\xff\xfe", `ü\xff\xfe`},
		{"reordering", "\u202e", `\u202e`},
		{"no-break space", "\u00a0", `\u00a0`},
		{"line separator", "\u2028", `\u2028`},
		{"tag", "\U000e0041", `\U000e0041`},
		{"quotes", `"quoted" \ ' `, `"quoted" \ ' `},
		{"quotes and a tab", "\"\\\t'", `"\\t'`},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Printable(c.in)
			if got != c.want {
				t.Errorf("Printable(%q) = %q, want %q", c.in, got, c.want)
			}
			if !IsPrintable(got) || IsPrintable(c.in) != (c.in == got) {
				t.Errorf("IsPrintable(%q) = %v, of the result %v", c.in, IsPrintable(c.in), IsPrintable(got))
			}
		})
	}
}

func TestShortened(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"four", "four"}, {"fives", "five..."}, {"üüü", "üü..."}, {"\n\n\n", `\n\n...`},
	} {
		if got := Shortened(c.in, 4); got != c.want {
			t.Errorf("Shortened(%q, 4) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestQuoted(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`}, {"sevenüü", `"sevenüü"`}, {"seven or more", `"seve..."`}, {"a\"\n", `"a\"\n"`},
	} {
		if got := Quoted(c.in, 7); got != c.want {
			t.Errorf("Quoted(%q, 7) = %s, want %s", c.in, got, c.want)
		}
	}
}

func TestPrintableJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"{\n \"a\": \"ü\"\n}", "{\n \"a\": \"ü\"\n}"},
		{"\"\u202e\u009b\U000e0041\"", `"\u202e\u009b\udb40\udc41"`},
	} {
		got := PrintableJSON(c.in)
		if got != c.want {
			t.Errorf("PrintableJSON(%q) = %q, want %q", c.in, got, c.want)
		}
		var before, after any
		if json.Unmarshal([]byte(c.in), &before) != nil || json.Unmarshal([]byte(got), &after) != nil {
			t.Fatalf("%q or %q is no JSON", c.in, got)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%q means %q, and %q means %q", c.in, before, got, after)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "a", "\x1b[31m", "\xff", "\u202e", "ü\x00"} {
		f.Add(seed, 5)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if got := Printable(s); !IsPrintable(got) {
			t.Errorf("Printable(%q) = %q", s, got)
		}
		if limit < 1 {
			return
		}
		if got := Shortened(s, limit); !IsPrintable(got) || len(got)-limit > len(`\U0010ffff...`) {
			t.Errorf("Shortened(%q, %d) = %q", s, limit, got)
		}
	})
}
