package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rcpt-milter/testenv/adsim"
)

// BenchmarkRejected measures the time from a RCPT to its 550, in turns for one recipient of each
// kind, with and without confirm. Each recipient is asked for once, as an attacker would. It
// reports the median of each kind, which should not tell the kinds apart.
func BenchmarkRejected(b *testing.B) {
	for name, confirm := range map[string]string{"confirm": "confirm: {timeout: 5s, per_second: 10000}",
		"index alone": "confirm: {enabled: false}"} {
		b.Run(name, func(b *testing.B) { rejected(b, confirm) })
	}
}

// rejectedEach is the number of recipients of each kind.
const rejectedEach = 400

func rejected(b *testing.B, confirm string) {
	var refuse []string
	for i := range rejectedEach {
		refuse = append(refuse, fmt.Sprintf("denylisted%d@corp.example", i))
	}
	r := newRig(b, confirm, "harvest: {unknown: 0}", "refuse: ["+strings.Join(refuse, ", ")+"]")
	r.edit("poll: 100ms", "poll: 100ms\n    internal_only: refuse\n    removal_guard: {max: 0}")
	var removed []adsim.GUID
	for i := range rejectedEach {
		for name, inside := range map[string][]string{"restricted": {"TRUE"}, "removed": nil, "denylisted": nil} {
			user := fmt.Sprintf("%s%d", name, i)
			guid, err := r.ad.Add(adsim.User, "CN="+user+",CN=Users,"+base, adsim.Attrs{
				"proxyAddresses": {"smtp:" + user + "@corp.example"}, "msExchRequireAuthToSendTo": inside})
			if err != nil {
				b.Fatal(err)
			}
			if name == "removed" {
				removed = append(removed, guid)
			}
		}
	}
	r.serve()
	r.want(exitOK, "sync", "--wait")
	for _, guid := range removed {
		if err := r.ad.Delete(guid); err != nil {
			b.Fatal(err)
		}
	}
	r.want(exitOK, "sync", "--full", "--wait")
	session, err := dialMilter(r.milterSocket())
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	kinds := []string{"unknown", "restricted", "removed", "denylisted"}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for i := range rejectedEach {
			for k := range kinds {
				kind := kinds[(i+k)%len(kinds)] // none is always first
				began := time.Now()
				reply, err := session.askAs("{client_addr}\x00192.0.2.1\x00", fmt.Sprintf("%s%d@corp.example", kind, i))
				if err != nil || !strings.HasPrefix(reply, "550") {
					b.Fatalf("%s%d: %q, %v", kind, i, reply, err)
				}
				times[kind] = append(times[kind], time.Since(began))
			}
		}
	}
	for kind, all := range times {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), kind+"-µs")
	}
	b.ReportMetric(0, "ns/op")
}
