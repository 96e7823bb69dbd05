package postfix

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"a": "1", "b": "x$a", "empty": "", "loop": "$loop", "level": "3.6"}
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"plain", "plain"}, {"$a", "1"}, {"${a}", "1"}, {"$(a)", "1"}, {"$b-", "x1-"}, {"$a$b", "1x1"},
		{"$$a", "$a"}, {"$", ""},
		{"$none", ""}, {"<$empty>", "<>"}, {"${a?yes}", "yes"}, {"${empty?yes}", ""}, {"${a:no}", ""},
		{"${empty:no}", "no"},
		{"${a?{yes $b}:{no}}", "yes x1"}, {"${empty?{yes}:{no $b}}", "no x1"}, {"${empty?{1}:{20}}", "20"},
		{"${{$a} == {1} ? {same} : {other}}", "same"}, {"${{$level} <level {3.10} ? {old} : {new}}",
			"old"}, {"${{$level} <level {2} ? {old} : {new}}", "new"},
		{"${{$b} != {x1} ? {a}}", ""}, {"${{2} >= {10} ? {a} : {b}}", "b"}, {"${{$none} == {} ? {a}}", "a"},
		{"$loop", "$loop"}, {"${a", "1"}, {"${{a} ? {b}", ""},
	} {
		got := expand(c.text, func(name string) string { return values[name] })
		if got != c.want {
			t.Errorf("expand(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestList(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil}, {" , ", nil}, {"a b,c,,d", []string{"a", "b", "c", "d"}}, {"{ a, b } c",
			[]string{"{ a, b }", "c"}}, {"{a {b c}},d", []string{"{a {b c}}", "d"}},
		{"inline:{ {a=b}, {c=d} } e", []string{"inline:{ {a=b}, {c=d} }", "e"}}, {"{ a", []string{"{ a"}}, {"a} b",
			[]string{"a}", "b"}},
	} {
		if got := list(c.text); !slices.Equal(got, c.want) {
			t.Errorf("list(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestParseMilters(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "[]"},
		{"unix:a/b", "[unix:a/b map[]]"},
		{"unix:a inet:b:1,inet:[::1]:2", "[unix:a map[] inet:b:1 map[] inet:[::1]:2 map[]]"},
		{"{ unix:a, connect_timeout=5s, default_action=tempfail }, inet:b:1",
			"[unix:a map[connect_timeout:5s default_action:tempfail] inet:b:1 map[]]"},
		{"{unix:a}", "[unix:a map[]]"}, {"{ unix:a { default_action = accept } }",
			"[unix:a map[default_action:accept]]"}, {"{}", "[]"},
	} {
		var got []string
		for _, m := range ParseMilters(c.text) {
			got = append(got, m.Endpoint, fmt.Sprint(m.Options))
		}
		if text := "[" + strings.Join(got, " ") + "]"; text != c.want {
			t.Errorf("ParseMilters(%q) = %s, want %s", c.text, text, c.want)
		}
	}
}

func TestParseTime(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"30", 30 * time.Second, true}, {"5s", 5 * time.Second, true}, {"2m", 2 * time.Minute, true}, {"1h", time.Hour,
			true}, {"1d", 24 * time.Hour, true},
		{"1w", 7 * 24 * time.Hour, true}, {"", 0, false}, {"s", 0, false}, {"5x", 0, false}, {"5ss", 0, false},
	} {
		if got, ok := parseTime(c.text); got != c.want && ok || ok != c.ok {
			t.Errorf("parseTime(%q) = %v, %t, want %v, %t", c.text, got, ok, c.want, c.ok)
		}
	}
}

func TestParseSettings(t *testing.T) {
	s := recorded(t, "busy")
	for _, c := range []struct{ service, name, want string }{
		{"", "smtpd_milters", "unix:rcpt-milter/milter.sock, inet:localhost:8891"},
		{"smtpd/pass", "smtpd_milters", "unix:rcpt-milter/milter.sock, inet:localhost:8891"},
		{"submission/inet", "smtpd_milters", "inet:localhost:8891"},
		{"smtps/inet", "smtpd_milters", ""},
		{"", "myorigin", "example.com"},
		{"", "mydestination", "mx.example.com, localhost"},
		{"", "smtpd_hard_error_limit", "20"},
		{"", "none", ""},
	} {
		var service *Service
		if i := slices.IndexFunc(s.Services, func(other Service) bool { return other.String() == c.service }); i >= 0 {
			service = &s.Services[i]
		}
		if got := s.Value(service, c.name); got != c.want || (service == nil) != (c.service == "") {
			t.Errorf("Value(%q, %q) = %q, want %q", c.service, c.name, got, c.want)
		}
	}
	if len(s.Services) != 36 || !s.Set["milter_default_action"] || s.Set["milter_connect_timeout"] {
		t.Errorf("%d services, %d parameters set", len(s.Services), len(s.Set))
	}
}

// FuzzExpand: whatever postconf prints is expanded in the end.
func FuzzExpand(f *testing.F) {
	for _, text := range []string{"$a", "${a?{b}:{c}}", "${{$a} <level {2} ? {x} : {y}}", "$(", "${", "}{$$"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		expand(text, func(string) string { return "v" })
		for _, word := range list(text) {
			if word == "" {
				t.Fatalf("list(%q) has an empty word", text)
			}
		}
		ParseMilters(text)
		ParseSettings(text, text, text, text)
	})
}
