package terminal

import (
	"slices"
	"strings"
	"testing"
)

func TestSpark(t *testing.T) {
	for _, c := range []struct {
		values []float64
		most   int
		want   string
	}{
		{nil, 5, ""},
		{[]float64{0, 0}, 5, "▁▁"},
		{[]float64{0, 1, 4, 8}, 5, "▁▂▅█"},
		{[]float64{0, 0.001, 1000}, 5, "▁▂█"},
		{[]float64{9, 9, 0, 5}, 2, "▁█"},
	} {
		if got := Spark(c.values, c.most); got != c.want {
			t.Errorf("Spark(%v, %d) = %q, want %q", c.values, c.most, got, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{
		{"short", 10, "short"},
		{"just so", 7, "just so"},
		{"too long", 3, "too"},
		{"ünïcödé", 4, "ünïc"},
		{"日本語", 4, "日本"},
		{"日本語", 3, "日"},
		{"\x1b[31mred\x1b[0m", 3, "\x1b[31mred\x1b[0m"},
		{"\x1b[31mred and more\x1b[0m", 3, "\x1b[31mred\x1b[0m"},
		{"", 3, ""},
	} {
		if got := Cut(c.line, c.columns); got != c.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		want    []string
	}{
		{"short", 30, []string{"short"}},
		{"no terminal is narrow enough for this text", -22, []string{"no terminal is narrow enough for this text"}},
		{"one two three four five six seven", 20, []string{"one two three four", "five six seven"}},
		{strings.Repeat("f", 45) + " x", 20, []string{strings.Repeat("f", 20), strings.Repeat("f", 20), "fffff x"}},
		{"\x1b[33mone two three four\x1b[0m five", 20, []string{"\x1b[33mone two three four\x1b[0m", "five"}},
		{"\x1b[33mone two three four five\x1b[0m six", 20,
			[]string{"\x1b[33mone two three four\x1b[0m", "\x1b[33mfive\x1b[0m six"}},
		{"--wait of a command-line --and-more", 20, []string{"--wait of a", "command-line", "--and-more"}},
		{"e\u0301e\u0301 " + strings.Repeat("日本語", 4), 21, []string{"e\u0301e\u0301", "日本語日本語日本語日", "本語"}},
		{"日本語日本語 日本語日本語", 20, []string{"日本語日本語", "日本語日本語"}},
	} {
		if got := Wrap(c.text, c.columns); !slices.Equal(got, c.want) {
			t.Errorf("Wrap(%q, %d) = %q, want %q", c.text, c.columns, got, c.want)
		}
	}
}
