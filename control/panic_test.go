package control

import (
	"context"
	"strings"
	"testing"
)

// TestPanicInARequest: a request that panics, before its answer or in the middle of it, is
// the error of that request, and the server goes on.
func TestPanicInARequest(t *testing.T) {
	f := &fake{report: func(ReportQuery) (Report, error) { panic("in a report") },
		sync: func(_ context.Context, _ SyncQuery, tell func(SyncEvent)) error {
			tell(SyncEvent{Directory: "corp"})
			panic("in a sync")
		}}
	client, stop := start(t, f)
	defer stop()
	for range 2 {
		if _, err := client.Report(t.Context(), ReportQuery{}); err == nil || !strings.Contains(err.Error(), "panic") {
			t.Errorf("report: %v", err)
		}
		events := 0
		err := client.Sync(t.Context(), SyncQuery{}, func(SyncEvent) { events++ })
		if err == nil || !strings.Contains(err.Error(), "panic") || events != 1 {
			t.Errorf("sync: %v after %d events", err, events)
		}
		if _, err := client.Status(t.Context()); err != nil {
			t.Errorf("status: %v", err)
		}
	}
}
