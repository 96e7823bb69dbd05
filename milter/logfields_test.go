package milter

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"rcpt-milter/policy"
)

// FuzzLogFields checks that for any input, the log line of a decision is one printable line in every format,
// and that no macro adds, removes or repeats a field.
func FuzzLogFields(f *testing.F) {
	for _, text := range []string{"a@enforce.test", "\x1b[2J", "a b\" verdict=known", "x\ny", "\u202egnp.exe", "\u200b",
		"\xff\xfe", "", "<>", "=", `\`, "\u2028", strings.Repeat("é", 1000)} {
		f.Add(text, "host.test", text, "from@client.test", "ann", "4bXyz")
		f.Add("nobody@report.test", text, "helo", text, text, text)
		f.Add(text+"@alias.test", text, text, text, "", "")
	}
	p := testPolicy(f, func(cfg *policy.Config) {
		cfg.Domains["alias.test"] = policy.ModeEnforce
		cfg.DomainAliases = map[string]string{"alias.test": "enforce.test"}
	})
	redactors := []*redactor{{}, {HashAddress([]byte("key"))}}
	f.Fuzz(func(t *testing.T, rcpt, name, helo, from, login, queue string) {
		s := &session{helo: helo}
		q := s.query("<"+rcpt+">", map[string]string{"{rcpt_addr}": rcpt, "{client_name}": name, "{mail_addr}": from,
			"{auth_authen}": login, "i": queue, "{client_addr}": "192.0.2.1"})
		d := p.Decide(context.Background(), q)
		for _, r := range redactors {
			attrs := r.attributes(q, d)
			record := slog.NewRecord(time.Time{}, slog.LevelInfo, "rcpt", 0)
			record.AddAttrs(attrs...)
			var plain, asJSON bytes.Buffer
			slog.NewTextHandler(&plain, nil).Handle(context.Background(), record)
			slog.NewJSONHandler(&asJSON, nil).Handle(context.Background(), record)
			for _, line := range []string{plain.String(), asJSON.String()} {
				body, ended := strings.CutSuffix(line, "\n")
				if !ended || strings.ContainsFunc(body, func(c rune) bool { return !unicode.IsPrint(c) }) {
					t.Fatalf("rcpt %q, name %q, helo %q, from %q, login %q, queue %q: the line is %q", rcpt, name, helo,
						from, login, queue, line)
				}
			}
			seen := map[string]bool{}
			for _, a := range attrs {
				if seen[a.Key] {
					t.Fatalf("field %s twice: %q", a.Key, plain.String())
				}
				seen[a.Key] = true
			}
			var fields map[string]any
			if err := json.Unmarshal(asJSON.Bytes(), &fields); err != nil || fields["verdict"] != string(d.Verdict) {
				t.Fatalf("the line %q: %v, verdict %v, want %s", asJSON.String(), err, fields["verdict"], d.Verdict)
			}
		}
	})
}
