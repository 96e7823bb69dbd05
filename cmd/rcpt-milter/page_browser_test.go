package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"rcpt-milter/control"
	"rcpt-milter/control/web"
)

// The environment variables of the tests with a browser: "require" makes a failure of
// what is a skip otherwise, and screenshots go to a directory for whoever looks at them.
const (
	envBrowser     = "TESTENV_BROWSER"
	envScreenshots = "TESTENV_SCREENSHOTS"
)

// browser is a Chromium without a screen, and what it complained of.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	trouble  []string
	requests []string
}

// newBrowser starts Debian's Chromium. Names map to this machine as rules says.
func newBrowser(t *testing.T, rules string) *browser {
	t.Helper()
	if os.Getenv("TESTENV") == "off" {
		t.Skip("BROWSER TEST SKIPPED: TESTENV=off")
	}
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" && os.Getenv(envBrowser) != "require" {
		t.Skip("BROWSER TEST SKIPPED: there is no Chromium; apt-get install chromium")
	}
	if program == "" {
		t.Fatal("there is no Chromium; apt-get install chromium")
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		// in a container of root there is no sandbox
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.Flag("host-resolver-rules", rules),
		chromedp.WSURLReadTimeout(2*time.Minute))...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, limit := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(limit)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.event)
	b.run(cdplog.Enable(), runtime.Enable(), network.Enable(), cdppage.Enable())
	return b
}

// event notes what a page must not cause: messages of the browser, which tell of a
// violated policy too, scripts that fail, and dialogues.
func (b *browser) event(e any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := e.(type) {
	case *cdplog.EventEntryAdded:
		b.trouble = append(b.trouble, e.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.trouble = append(b.trouble, e.ExceptionDetails.Text)
	case *cdppage.EventJavascriptDialogOpening:
		b.trouble = append(b.trouble, "dialogue: "+e.Message)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// text is what a reader sees of an element.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.run(chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// shot keeps a picture of the whole page where somebody wants one.
func (b *browser) shot(name string) {
	dir := os.Getenv(envScreenshots)
	if dir == "" {
		return
	}
	var picture []byte
	b.run(chromedp.FullScreenshot(&picture, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		b.t.Error(err)
	}
}

// quiet fails the test if the browser complained, or asked anybody but the page's host.
func (b *browser) quiet(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.trouble) > 0 {
		b.t.Errorf("the browser complains: %q", b.trouble)
	}
	for _, url := range b.requests {
		if !strings.HasPrefix(url, origin) && !strings.HasPrefix(url, "about:") {
			b.t.Errorf("the page asks for %s", url)
		}
	}
}

// TestPageInBrowser is the status page of a running daemon as people see it: on a desk
// and on a telephone, by day and by night.
func TestPageInBrowser(t *testing.T) {
	b := newBrowser(t, "MAP evil.example 127.0.0.1")
	r := newRig(t)
	at := freePort(t)
	r.edit(`metrics: ""`, "metrics: inet:"+at)
	r.serve()
	r.want(exitOK, "sync", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for i := range 20 {
		session.want(t, "jane@corp.example", "continue")
		session.want(t, fmt.Sprintf("nobody%d@corp.example", i), "550")
		session.want(t, "nobody@report.example", "continue")
	}
	origin := "http://" + at
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		for name, size := range map[string][2]int64{"desk": {1280, 900}, "phone": {360, 740}} {
			var overflow int64
			var ground string
			b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme",
				Value: scheme}}),
				emulation.SetDeviceMetricsOverride(size[0], size[1], 1, name == "phone"),
				chromedp.Navigate(origin+"/"), chromedp.WaitVisible("footer", chromedp.ByQuery),
				chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &overflow),
				chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &ground))
			if overflow > 0 {
				t.Errorf("%s, %s: the page is %d pixels too wide", name, scheme, overflow)
			}
			grounds[scheme] = ground
			b.shot("page-" + name + "-" + scheme)
		}
	}
	var bars int
	if b.run(chromedp.Evaluate(`document.querySelectorAll(".chart rect").length`, &bars)); bars != 3 {
		t.Errorf("the chart has %d bars, want one each for accepted, report only and refused", bars)
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("by night the page is %s, as by day", grounds["dark"])
	}
	text := b.text("body")
	for _, want := range []string{"rcpt-milter fresh", "Directory corp fresh", "dc1.corp.example",
		"corp.example\t20\t0", "report.example\t0\t20", "Nothing can be changed from here"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	for address, want := range map[string]string{"Jane@corp.example": "accepted", "nobody@corp.example": "refused",
		`"><script>alert(1)</script>@corp.example`: "refused"} {
		b.run(chromedp.Navigate(origin+"/"), chromedp.SendKeys("#address", address+"\r", chromedp.ByQuery),
			chromedp.WaitVisible(".answer", chromedp.ByQuery))
		if got := b.text(".answer h2"); got != address+" "+want {
			t.Errorf("looking up %s shows %q, want %s", address, got, want)
		}
	}
	b.shot("page-lookup")
	b.quiet(origin)

	// A page of somebody else whose name leads here gets nothing to read.
	_, port, _ := strings.Cut(at, ":")
	b.run(chromedp.Navigate("http://evil.example:" + port + "/"))
	if text := b.text("body"); strings.Contains(text, "fresh") || !strings.Contains(text, "page.hosts") {
		t.Errorf("under a name of somebody else the page says\n%s", text)
	}
}

// TestTroubleInBrowser is the page of a daemon that has everything to tell at once.
func TestTroubleInBrowser(t *testing.T) {
	b := newBrowser(t, "")
	s := troubledStatus()
	s.Decisions = map[string]int64{"unknown": 90, "known": 1200, "confirmed": 3, "harvest-limited": 40, "stale": 12,
		"exempt": 5, "melted": 1, "allowlisted": 0}
	s.RestartNeeded = []string{"listen", "store"}
	names := []control.RefusedName{{Name: "a-rather-long-name-of-a-domain-that-somebody-has.example.com",
		Refused: 1234567, WouldRefuse: 3}, {Name: "2001:db8:1234:5678::/64", Refused: 1}}
	backend := answering{status: func(context.Context) (control.Status, error) { return s, nil },
		report: control.Report{Refused: 130, Domains: names, Networks: names}}
	history := &web.History{}
	history.Observe(noon.Add(-5*time.Hour), map[string]int64{"known": 900, "unknown": 60}, map[string]int64{"unknown": 20})
	page := httptest.NewServer(web.New(web.Config{On: func() bool { return true }, Hosts: func() []string { return nil },
		Now: func() time.Time { return noon }}, backend, history, nil))
	defer page.Close()
	for name, size := range map[string][2]int64{"desk": {1280, 900}, "phone": {360, 740}} {
		var overflow int64
		b.run(emulation.SetDeviceMetricsOverride(size[0], size[1], 1, name == "phone"),
			chromedp.Navigate(page.URL), chromedp.WaitVisible("footer", chromedp.ByQuery),
			chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &overflow))
		if overflow > 0 {
			t.Errorf("%s: the page is %d pixels too wide", name, overflow)
		}
		b.shot("trouble-" + name)
	}
	text := b.text("body")
	for _, want := range []string{
		"exempt accepted\t5\t\nknown accepted\t1\u202f200\t\nstale deferred\t12\t\nconfirmed " +
			"accepted\t3\t\nharvest-limited deferred\t40\t\nunknown refused\t90\t32\nmelted refused\t1",
		"600 removals are held back, still accepted. 600 removals in 24h exceed max (500).",
		"1 removal is held back, still accepted. 1 removal would empty old.example.",
		"its last good copy, of 3 hours ago, is in force since ", "A restart is needed for the new values of listen, store.",
		"3 found, 1\u202f200 not found, 40 from memory, 7 over the budget, 2 without an answer",
		"8 client networks over it, of 4\u202f321 remembered",
		"corp.mail.onmicrosoft.com\t–\t1", "sub.example.org\treport\t4\u202f567", "1 entry, read 60 seconds ago",
		"25 lines do not count", `/G "svc-mail@corp.example:LCRP"`,
		"no longer in the configuration; its addresses leave", "2 values in the directories",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	b.quiet(page.URL)
}
