package control

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	at := journalRows(1)[0].Time
	row := RefusedAddress{RefusedName: RefusedName{Name: "a@x.test", Refused: 3, WouldRefuse: 1, First: at, Last: at},
		Network: "192.0.2.0/24", Now: NowUnknown}
	want := Report{From: at, To: at, Refused: 3, WouldRefuse: 1, Verdicts: map[string]int64{"unknown": 4},
		Addresses: []RefusedAddress{row},
		Domains:   []RefusedName{}, Networks: []RefusedName{}, NearMisses: []NearMiss{{RefusedAddress: row,
			Known: []string{"b@x.test"}}}, Searched: 1}
	var asked ReportQuery
	client, _ := start(t, &fake{report: func(q ReportQuery) (Report, error) {
		asked = q
		return want, nil
	}})
	for _, q := range []ReportQuery{{}, {Since: at}, {Limit: 7}} {
		got, err := client.Report(t.Context(), q)
		if err != nil || asked != q {
			t.Errorf("Report(%+v) asks %+v: %v", q, asked, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Report (-want +got):\n%s", d)
		}
	}
	for _, path := range []string{"/v1/report?since=soon", "/v1/report?limit=few", "/v1/report?limit=-1"} {
		response, err := client.do(t.Context(), http.MethodGet, path, nil)
		if err == nil {
			response.Body.Close()
			t.Errorf("GET %s is answered", path)
		}
	}
}
