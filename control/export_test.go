package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func exportEvents() []ExportEvent {
	at := Time{time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)}
	return []ExportEvent{
		{Head: &ExportHead{Version: "1", Time: at, State: Fresh, Addresses: 3, Digest: "00ff",
			Domains:     map[string]string{"example.com": "enforce"},
			Directories: []ExportDirectory{{Name: "corp", State: Fresh, LastSuccess: at}},
			Unlisted:    []string{"patterns"}}},
		{Recipients: []Recipient{{Address: "a@example.com", Source: SourceIndex},
			{Address: "b@example.com", Source: SourceIndex, Restricted: true}}},
		{Recipients: []Recipient{{Address: "@example.net", Source: SourcePass}}},
	}
}

func TestExport(t *testing.T) {
	var asked ExportQuery
	client, _ := start(t, &fake{export: func(_ context.Context, q ExportQuery, tell func(ExportEvent) error) error {
		asked = q
		for _, e := range exportEvents() {
			if err := tell(e); err != nil {
				return err
			}
		}
		return errors.New("cut off")
	}})
	var got []ExportEvent
	err := client.Export(t.Context(), ExportQuery{All: true, Force: true}, func(e ExportEvent) error {
		got = append(got, e)
		return nil
	})
	if err == nil || err.Error() != "cut off" || !asked.All || !asked.Force {
		t.Errorf("Export asks %+v: %v", asked, err)
	}
	if d := cmp.Diff(exportEvents(), got); d != "" {
		t.Errorf("Export (-want +got):\n%s", d)
	}
	enough := errors.New("enough")
	err = client.Export(t.Context(), ExportQuery{}, func(ExportEvent) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("Export does not end with its visitor: %v", err)
	}
}
