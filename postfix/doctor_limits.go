package postfix

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// checkSoftBounce checks that rejections are permanent.
func (e *examination) checkSoftBounce() {
	var soft []string
	if e.Value(nil, "soft_bounce") == "yes" {
		soft = append(soft, e.set("soft_bounce", "no"))
	}
	for _, l := range e.asked() {
		if l.Overrides["soft_bounce"] == "yes" {
			soft = append(soft, e.postconf("-PX", l.String()+"/soft_bounce"))
		}
	}
	if len(soft) > 0 {
		e.find("soft-bounce", Problem, "soft_bounce makes every rejection temporary",
			"Clients retry unknown recipients for days instead of returning the mail.", soft...)
	}
}

// Below these limits a legitimate client with some old addresses is disconnected, and its
// valid recipients are lost too.
const (
	leastHard  = 20
	leastSoft  = 10
	mostSleep  = 5 * time.Second
	stockHard  = "${stress?{1}:{20}}"
	stockSleep = "1s"
)

// checkErrorLimits checks that a few rejected recipients do not end a session.
func (e *examination) checkErrorLimits() {
	found := map[string][]listener{}
	fix := map[string][]string{}
	for _, l := range e.asked() {
		note := func(parameter, stock string) {
			what := parameter + " is " + e.Value(l.Service, parameter)
			found[what] = append(found[what], l)
			if command := e.setFor(l, parameter, stock); !slices.Contains(fix[what], command) {
				fix[what] = append(fix[what], command)
			}
		}
		if n, ok := e.number(l.Service, "smtpd_hard_error_limit"); ok && n < leastHard {
			note("smtpd_hard_error_limit", stockHard)
		}
		sleep, _ := e.time(l.Service, "smtpd_error_sleep_time")
		if n, ok := e.number(l.Service, "smtpd_soft_error_limit"); ok && n < leastSoft && sleep > 0 {
			note("smtpd_soft_error_limit", fmt.Sprint(leastSoft))
		}
		if sleep > mostSleep {
			note("smtpd_error_sleep_time", stockSleep)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(found)) {
		e.find("error-limit", Problem, what+" for "+names(found[what]),
			"Rejections count as errors: a client with some old addresses is slowed down or disconnected.",
			fix[what]...)
	}
}

// checkInstances reports other instances, which have their own configuration.
func (e *examination) checkInstances() {
	others := list(e.Value(nil, "multi_instance_directories"))
	if len(others) == 0 || e.Dir != "" {
		return
	}
	e.find("instances", Note, "there are other instances of Postfix: "+strings.Join(others, ", "),
		"Each has its own settings, which were not checked.", "rcpt-milter doctor --postfix-config "+others[0])
}
