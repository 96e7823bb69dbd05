package ui

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

// envBrowser is the environment variable that makes a missing browser a failure, with the value
// "require". Without it, the tests are skipped.
const envBrowser = "TESTENV_BROWSER"

// browser is a Chromium without a screen. It records complaints of Chromium and the requests of
// the page.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requests   []string
}

// newBrowser starts Chromium; rules map host names to addresses.
func newBrowser(t *testing.T, rules string) *browser {
	t.Helper()
	program := findChromium(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.NoSandbox, // root in a container has no sandbox
		chromedp.Flag("host-resolver-rules", rules), chromedp.WSURLReadTimeout(2*time.Minute))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, limit := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(limit)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.record)
	b.run(cdplog.Enable(), runtime.Enable(), network.Enable(), cdppage.Enable())
	return b
}

// findChromium returns the path of the browser. It skips the test if there is none.
func findChromium(t *testing.T) string {
	t.Helper()
	if os.Getenv("TESTENV") == "off" {
		t.Skip("BROWSER TEST SKIPPED: TESTENV=off")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "Chromium is not installed; apt-get install chromium"
	if os.Getenv(envBrowser) == "require" {
		t.Fatal(missing)
	}
	t.Skip("BROWSER TEST SKIPPED: " + missing)
	return ""
}

// record notes requests, and events that the page must not cause: messages of the browser, which
// include violations of the page's policy, exceptions of scripts, and dialogs.
func (b *browser) record(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch event := event.(type) {
	case *cdplog.EventEntryAdded:
		b.complaints = append(b.complaints, event.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, event.ExceptionDetails.Text)
	case *cdppage.EventJavascriptDialogOpening:
		b.complaints = append(b.complaints, "dialog: "+event.Message)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, event.Request.URL)
	}
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// size is that of a device.
type size struct {
	name          string
	width, height int64
}

var sizes = []size{{"desktop", 1280, 900}, {"phone", 360, 740}}

// open opens a page on a device of this size, and checks that the page is not too wide.
func (b *browser) open(url string, device size) {
	b.t.Helper()
	var overflow int64
	b.run(emulation.SetDeviceMetricsOverride(device.width, device.height, 1, device.name == "phone"),
		chromedp.Navigate(url), chromedp.WaitVisible("footer", chromedp.ByQuery),
		chromedp.Evaluate(`document.documentElement.scrollWidth - window.innerWidth`, &overflow))
	if overflow > 0 {
		b.t.Errorf("%s: the page is %d pixels too wide", device.name, overflow)
	}
}

// text returns the text of an element as a reader sees it.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.run(chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// wantTexts checks that the page shows the texts.
func (b *browser) wantTexts(texts ...string) {
	b.t.Helper()
	body := b.text("body")
	for _, want := range texts {
		if !strings.Contains(body, want) {
			b.t.Errorf("the page does not show %q:\n%s", want, body)
		}
	}
}

// wantReadableDomains checks that the table of domains scrolls in its own frame, also by keyboard, and that
// its numbers leave room for the names.
func (b *browser) wantReadableDomains(device size) {
	b.t.Helper()
	var table struct{ Name, Tab, Wider int }
	b.run(chromedp.Evaluate(`(() => {
		const table = document.querySelector("table.domains"), frame = table.parentElement;
		return {Name: Math.round(table.querySelector("tbody th").clientWidth), Tab: frame.tabIndex,
			Wider: Math.round(frame.getBoundingClientRect().right - window.innerWidth)};
	})()`, &table))
	if table.Name < 120 || table.Tab != 0 || table.Wider > 0 {
		b.t.Errorf("%s: the table of domains: %+v", device.name, table)
	}
}

// save writes a picture of the whole page if a directory for it is configured.
func (b *browser) save(name string) {
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

// wantQuiet checks that Chromium did not complain and that all requests went to origin.
func (b *browser) wantQuiet(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("the browser complains: %q", b.complaints)
	}
	for _, url := range b.requests {
		if !strings.HasPrefix(url, origin) && !strings.HasPrefix(url, "about:") {
			b.t.Errorf("the page requests %s", url)
		}
	}
}

// TestPage shows the status page of a running daemon on a desktop and a phone, in light and dark.
func TestPage(t *testing.T) {
	b := newBrowser(t, "MAP evil.example 127.0.0.1")
	r := newRig(t)
	r.serve()
	address := r.forwardPage()
	r.want(exitOK, "sync", "--wait")
	session := r.milterSession()
	for i := range 20 {
		session.want(t, "jane@corp.example", 0)
		session.want(t, fmt.Sprintf("nobody%d@corp.example", i), 550)
		session.want(t, "nobody@report.example", 0)
	}
	origin := "http://" + address
	backgrounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		for _, device := range sizes {
			var background string
			feature := emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme}
			b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{&feature}))
			b.open(origin+"/", device)
			b.run(chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &background))
			backgrounds[scheme] = background
			b.save("page-" + device.name + "-" + scheme)
		}
	}
	if backgrounds["light"] == backgrounds["dark"] {
		t.Errorf("the background is %s in light and in dark", backgrounds["dark"])
	}
	var bars int
	if b.run(chromedp.Evaluate(`document.querySelectorAll(".chart rect").length`, &bars)); bars != 3 {
		t.Errorf("the chart has %d bars, want one each for accepted, report only and refused", bars)
	}
	b.wantTexts("rcpt-milter fresh", "Directory corp fresh", "dc1.corp.example", "corp.example\t20\t0",
		"report.example\t0\t20", "corp.example\tenforce\t2\t20\t20\t0\t0\nreport.example\treport\t0\t0\t0\t20\t0",
		"Nothing can be changed from here")
	for address, want := range map[string]string{
		"Jane@corp.example":                        "accepted",
		"nobody@corp.example":                      "refused",
		`"><script>alert(1)</script>@corp.example`: "refused",
	} {
		b.run(chromedp.Navigate(origin+"/"), chromedp.SendKeys("#address", address+"\r", chromedp.ByQuery),
			chromedp.WaitVisible(".answer", chromedp.ByQuery))
		if got := b.text(".answer h2"); got != address+" "+want {
			t.Errorf("the lookup of %s shows %q, want %s", address, got, want)
		}
	}
	b.save("page-lookup")
	b.wantQuiet(origin)

	// A foreign name that resolves to the daemon must not read the page.
	_, port, _ := strings.Cut(address, ":")
	b.run(chromedp.Navigate("http://evil.example:" + port + "/"))
	if text := b.text("body"); strings.Contains(text, "fresh") || !strings.Contains(text, "page.hosts") {
		t.Errorf("under a foreign name the page is\n%s", text)
	}
}

// TestTroubledPage shows the page of a daemon with every kind of problem.
func TestTroubledPage(t *testing.T) {
	b := newBrowser(t, "")
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // of the status
	status := troubledStatus(t)
	status.Decisions = map[string]int64{"unknown": 90, "known": 1200, "confirmed": 3, "harvest-limited": 40,
		"stale": 12, "exempt": 5, "melted": 1, "allowlisted": 0}
	status.RestartNeeded = []string{"listen", "store"}
	names := []control.RefusedName{
		{Name: "a-rather-long-name-of-a-domain-that-somebody-has.example.com", Refused: 1234567, WouldRefuse: 3},
		{Name: "2001:db8:1234:5678::/64", Refused: 1},
	}
	daemon := fakeDaemon{
		status: func(context.Context) (control.Status, error) { return status, nil },
		report: control.Report{Refused: 130, Domains: names, Networks: names},
	}
	history := &web.History{}
	history.Observe(now.Add(-5*time.Hour), control.Judged{Accepted: 900, Refused: 40, ReportOnly: 20})
	config := web.Config{On: func() bool { return true }, Hosts: func() []string { return nil },
		Now: func() time.Time { return now }}
	page := httptest.NewServer(web.New(config, daemon, history, nil))
	defer page.Close()
	for _, device := range sizes {
		b.open(page.URL, device)
		b.wantReadableDomains(device)
		b.save("troubled-" + device.name)
	}
	b.wantTexts(
		"exempt accepted\t5\t\nknown accepted\t1\u202f200\t\nstale deferred\t12\t\nconfirmed accepted\t3\t\n"+
			"harvest-limited deferred\t40\t\nunknown refused\t90\t32\nmelted refused\t1",
		"Postfix cannot connect, so mail is deferred: unix:/run/", "a file is in the way",
		"600 removals are held back, still accepted. 600 removals in 24h exceed max (500).",
		"1 removal is held back, still accepted. 1 removal would empty old.example.",
		"its last good copy, of 3 hours ago, has been in effect since ",
		"A restart is needed for the new values of listen, store.",
		"3 found, 1\u202f200 not found, 40 from memory, 7 over the budget, 2 without an answer",
		"8 client networks over it, of 4\u202f321 remembered",
		"corp.mail.onmicrosoft.com\t–\t1", "sub.example.org\treport\t4\u202f567",
		"example.com\tenforce\t1\u202f230\u202f000\t98\u202f000\t400\t0\t0", "1 entry, read 60 seconds ago",
		"25 lines do not count", `/G "svc-mail@corp.example:LCRP"`,
		"no longer in the configuration; its addresses leave",
		"2 values in the directories",
	)
	b.wantQuiet(page.URL)
}
