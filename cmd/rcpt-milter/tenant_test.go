package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rcpt-milter/control"
)

const (
	adminToken = "0123456789abcdef0123456789abcdef"
	mineToken  = "Zm9vYmFyYmF6cXV4LS0tLT"
	aliasToken = "fedcba9876543210fedcba9876543210"
)

// tenantRig serves a page with tokens for everything, for mine.example, and for alias.example.
func tenantRig(t *testing.T) (r *rig, page string) {
	t.Helper()
	r = newRig(t)
	page = freePort(t)
	r.addUser("bob", "smtp:bob@mine.example")
	r.addUser("carol", "smtp:carol@theirs.example")
	r.edit("  report.example: report\n", "  report.example: report\n  mine.example: enforce\n  .mine.example: report\n"+
		"  theirs.example: enforce\n  alias.example: enforce\n")
	r.edit("removal_grace: 0s", "removal_grace: 0s\ndomain_aliases: {alias.example: theirs.example}")
	tokens := r.write("tokens", adminToken+" *\n"+mineToken+" mine.example .mine.example\n"+aliasToken+
		" alias.example\n")
	r.edit("control: ", "page: {listen: inet:"+page+", tokens: "+tokens+"}\ncontrol: ")
	return r, page
}

// bearer returns a header with a token.
func bearer(token string) http.Header {
	if token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// TestTenants: with its token a tenant sees and looks up its domains, and learns nothing of others on any
// path.
func TestTenants(t *testing.T) {
	r, page := tenantRig(t)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "bbo@mine.example", "550")
	session.want(t, "a@sub.mine.example", "continue")
	for _, foreign := range []string{"carl@theirs.example", "nobody@corp.example", "c@theirs.example"} {
		session.want(t, foreign, "550")
	}
	get := func(token, path string) (int, string) {
		t.Helper()
		code, body, err := getFrom(t.Context(), "tcp", page, page, path, bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		return code, body
	}
	read := func(token, path string, into any) {
		t.Helper()
		code, body := get(token, path)
		if err := json.Unmarshal([]byte(body), into); code != http.StatusOK || err != nil {
			t.Fatalf("GET %s: %d, %v\n%s", path, code, err, body)
		}
	}
	secret := func(what, body string) {
		t.Helper()
		for _, word := range []string{"theirs", "corp", "report.example", "carol", "CN=", "DC="} {
			if strings.Contains(body, word) {
				t.Errorf("%s has %q:\n%s", what, word, body)
			}
		}
	}

	t.Run("own domains", func(t *testing.T) {
		for _, path := range []string{"/", "/?refresh", "/lookup?address=bob@mine.example",
			"/lookup?address=bbo@mine.example", "/v1/status", "/v1/lookup?address=bob@mine.example", "/v1/report"} {
			code, body := get(mineToken, path)
			if code != http.StatusOK || !strings.Contains(body, "mine.example") {
				t.Errorf("GET %s: %d\n%s", path, code, body)
			}
			secret("GET "+path, body)
		}
		var s control.TenantStatus
		read(mineToken, "/v1/status", &s)
		byName := map[string]control.TenantDomain{}
		for _, d := range s.Domains {
			byName[d.Domain] = d
		}
		mine, below := byName["mine.example"], byName[".mine.example"]
		if s.State != control.Fresh || len(s.Domains) != 2 || mine.Addresses != 1 || mine.Mode != "enforce" ||
			mine.Unknown != control.UnknownRejected || mine.WouldRefuse || mine.LastSuccess.IsZero() ||
			below.Mode != "report" || !below.WouldRefuse {
			t.Errorf("the status is %+v", s)
		}
		var l control.TenantLookup
		read(mineToken, "/v1/lookup?address=Bob@MINE.example", &l)
		if l.Verdict != "known" || l.Outcome != control.Accepted || l.Canonical != "bob@mine.example" ||
			len(l.Owners) != 1 || l.Owners[0].Class != "user" {
			t.Errorf("the lookup is %+v", l)
		}
		var report control.TenantReport
		read(mineToken, "/v1/report", &report)
		if report.Refused != 1 || report.WouldRefuse != 1 || len(report.Domains) != 2 || len(report.Addresses) != 2 {
			t.Errorf("the report is %+v", report)
		}
		read(mineToken, "/v1/report?limit=1", &report)
		if report.Refused != 1 || len(report.Domains) != 1 || len(report.Addresses) != 1 {
			t.Errorf("the report of one row is %+v", report)
		}
	})

	t.Run("foreign domains", func(t *testing.T) {
		for _, path := range []string{"/lookup", "/v1/lookup"} {
			var answers []string
			for _, address := range []string{"carol@theirs.example", "nobody@theirs.example", "jane@corp.example",
				"x@report.example", "x@no.such.domain", "postmaster", "postmaster@theirs.example",
				"carol@alias.example",
				"mine.example", "@mine.example@theirs.example", "<@mine.example:carol@theirs.example>",
				`"bob@mine.example"@theirs.example`, "bob@mine.example@theirs.example",
				"bob@mine.example\r\n@theirs.example", "\x00"} {
				code, body := get(mineToken, path+"?address="+url.QueryEscape(address))
				if code != http.StatusForbidden {
					t.Errorf("GET %s of %q: %d\n%s", path, address, code, body)
				}
				answers = append(answers, body)
			}
			if all := slices.Compact(answers); len(all) != 1 {
				t.Errorf("GET %s tells foreign domains apart:\n%s", path, strings.Join(all, "\n"))
			}
		}
	})

	t.Run("alias of a foreign domain", func(t *testing.T) {
		var l control.TenantLookup
		code, body := get(aliasToken, "/v1/lookup?address=carol@alias.example")
		if err := json.Unmarshal([]byte(body), &l); code != http.StatusOK || err != nil ||
			l.Outcome != control.Accepted || len(l.Owners)+len(l.History) != 0 {
			t.Errorf("%d, %v\n%s", code, err, body)
		}
		secret("the lookup", strings.ReplaceAll(body, "carol@alias.example", ""))
	})

	t.Run("everything", func(t *testing.T) {
		var s control.Status
		read(adminToken, "/v1/status", &s)
		var l control.LookupAnswer
		read(adminToken, "/v1/lookup?address=carol@theirs.example", &l)
		var report control.Report
		read(adminToken, "/v1/report", &report)
		if len(s.Directories) != 1 || l.Verdict != "known" || report.Refused != 4 || report.WouldRefuse != 1 {
			t.Errorf("status %+v\nlookup %+v\nreport %+v", s, l, report)
		}
	})
}

// TestTenantDecisions: a tenant sees the decisions of its own entries of domains. Those of others change
// nothing, also not how many rows its page omits, and those of an entry that it shares are not shown.
func TestTenantDecisions(t *testing.T) {
	const sharedToken = "00112233445566778899aabbccddeeff"
	r, page := tenantRig(t)
	r.edit("  theirs.example: enforce\n", "  theirs.example: enforce\n  .shared.example: enforce\n")
	var others strings.Builder
	for i := range 40 {
		fmt.Fprintf(&others, "  theirs%d.example: enforce\n", i)
	}
	r.edit("  alias.example: enforce\n", "  alias.example: enforce\n"+others.String())
	r.write("tokens", adminToken+" *\n"+mineToken+" mine.example .mine.example\n"+sharedToken+
		" a.shared.example .b.shared.example\n")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	session.want(t, "bob@mine.example", "continue")
	session.want(t, "bbo@mine.example", "550")
	session.want(t, "a@sub.mine.example", "continue")
	mine := map[string]map[string]int64{
		"mine.example":  {"accepted": 1, "refused": 1, "temporary": 0, "report-only": 0},
		".mine.example": {"accepted": 0, "refused": 0, "temporary": 0, "report-only": 1},
	}
	shared := map[string]map[string]int64{"a.shared.example": nil, ".b.shared.example": nil}
	check := func() {
		t.Helper()
		for token, want := range map[string]map[string]map[string]int64{mineToken: mine, sharedToken: shared} {
			code, body, err := getFrom(t.Context(), "tcp", page, page, "/v1/status", bearer(token))
			if err != nil {
				t.Fatal(err)
			}
			var s control.TenantStatus
			if err := json.Unmarshal([]byte(body), &s); code != http.StatusOK || err != nil || s.Started.IsZero() {
				t.Fatalf("%d, %v\n%s", code, err, body)
			}
			got := map[string]map[string]int64{}
			for _, d := range s.Domains {
				got[d.Domain] = d.Decisions
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the decisions (-want +got):\n%s", diff)
			}
			code, body, err = getFrom(t.Context(), "tcp", page, page, "/", bearer(token))
			if code != http.StatusOK || err != nil || strings.Contains(body, "theirs") ||
				strings.Contains(body, "And ") {
				t.Errorf("the page: %d, %v\n%s", code, err, body)
			}
		}
	}
	check()
	for _, foreign := range []string{"x@theirs.example", "x@corp.example"} {
		session.want(t, foreign, "550")
	}
	for _, in := range []string{"x@theirs7.example", "x@a.shared.example", "x@a.b.shared.example",
		"x@c.shared.example"} {
		session.want(t, in, "451") // no address there is known
	}
	check()
	if all := r.status().DomainDecisions; all["theirs7.example"]["temporary"] != 1 ||
		all[".shared.example"]["temporary"] != 3 {
		t.Errorf("the decisions of all are %v", all)
	}
}

// TestTenantStaleFile: the modification of an accept file is not shown as a good pass.
func TestTenantStaleFile(t *testing.T) {
	r, page := tenantRig(t)
	file := r.write("table", "filed@mine.example OK\n")
	r.age(file, 25*time.Hour)
	r.edit("removal_grace: 0s\n", "removal_grace: 0s\naccept_files: ["+file+"]\naccept_files_max_age: 1d\n")
	r.serve()
	r.want(exitOK, "sync", "--wait")
	code, body, err := getFrom(t.Context(), "tcp", page, page, "/v1/status", bearer(mineToken))
	if err != nil {
		t.Fatal(err)
	}
	var s control.TenantStatus
	if err := json.Unmarshal([]byte(body), &s); code != http.StatusOK || err != nil {
		t.Fatalf("%d, %v\n%s", code, err, body)
	}
	for _, d := range s.Domains {
		if d.Domain == "mine.example" && (d.State != control.Stale || d.Unknown != control.UnknownDeferred ||
			time.Since(d.LastSuccess.Time) > time.Hour) {
			t.Errorf("%+v", d)
		}
	}
	if s.State != control.Stale || len(s.Domains) != 2 {
		t.Errorf("%+v", s)
	}
}

// TestTokenReload: a change of the token file is in effect at once. While it is not valid, no token is, and
// status and check name the line.
func TestTokenReload(t *testing.T) {
	r, page := tenantRig(t)
	r.serve()
	code := func(token string) int {
		t.Helper()
		code, _, err := getFrom(t.Context(), "tcp", page, page, "/v1/status", bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if got := code(mineToken); got != http.StatusOK {
		t.Fatalf("the token of a tenant: %d", got)
	}
	r.write("tokens", adminToken+" *\n")
	if got, admin := code(mineToken), code(adminToken); got != http.StatusUnauthorized || admin != http.StatusOK {
		t.Errorf("after its line went: %d, and the other: %d", got, admin)
	}
	r.want(exitOK, "reload")
	r.write("tokens", adminToken+" *\n"+mineToken+"\n") // its domains were forgotten
	if got := code(adminToken); got != http.StatusServiceUnavailable {
		t.Errorf("with a wrong line: %d", got)
	}
	if all := r.status().Alarms; len(all) != 1 || !strings.Contains(all[0], "line 2: ") ||
		strings.Contains(all[0], mineToken) {
		t.Errorf("the alarms are %q", all)
	}
	if _, _, out := r.command("check"); !strings.Contains(out, "line 2: ") || strings.Contains(out, mineToken) {
		t.Errorf("check says\n%s", out)
	}
}

// TestTokensOnUnixSocket: a page on a unix socket needs a token too, once tokens are configured: a proxy
// in front of it serves tenants.
func TestTokensOnUnixSocket(t *testing.T) {
	r, page := tenantRig(t)
	r.edit("listen: inet:"+page+",", "listen: unix:"+filepath.Join(r.dir, "run/page.sock")+",")
	r.serve()
	get := func(token string) int {
		t.Helper()
		code, _, err := getFrom(t.Context(), "unix", filepath.Join(r.dir, "run/page.sock"), "localhost", "/",
			bearer(token))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if none, mine := get(""), get(mineToken); none != http.StatusUnauthorized || mine != http.StatusOK {
		t.Errorf("without a token %d, with one %d", none, mine)
	}
	r.edit("tokens: "+filepath.Join(r.dir, "tokens"), `tokens: ""`)
	r.want(exitOK, "reload")
	if none := get(""); none != http.StatusOK {
		t.Errorf("after the reload, without a token: %d", none)
	}
}
