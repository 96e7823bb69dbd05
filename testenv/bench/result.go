package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// value is one measured quantity of one candidate.
type value struct {
	Quantity  string    `json:"quantity"`  // with its unit and what it was measured with
	Candidate string    `json:"candidate"` // what was measured
	Rounds    []float64 `json:"rounds"`    // in the order of the rounds
	// Base is the candidate to whose value of the same quantity and rounds the ratio refers; empty
	// means none.
	Base string `json:"base,omitempty"`
}

// result is what a run measured, with what another run needs to be compared with it.
type result struct {
	Began     time.Time `json:"began"`
	Go        string    `json:"go"`
	CPUs      int       `json:"cpus"`
	Addresses int       `json:"addresses"`
	Length    float64   `json:"seconds_per_round"`
	Values    []value   `json:"values"`
}

func newResult(o options) *result {
	return &result{Began: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), CPUs: runtime.NumCPU(),
		Addresses: o.addresses, Length: o.length.Seconds()}
}

func (r *result) add(v value) { r.Values = append(r.Values, v) }

func (r *result) find(quantity, candidate string) (value, bool) {
	i := slices.IndexFunc(r.Values, func(v value) bool { return v.Quantity == quantity && v.Candidate == candidate })
	if i < 0 {
		return value{}, false
	}
	return r.Values[i], true
}

// median returns the median of the rounds; 0 if there are none.
func median(rounds []float64) float64 {
	if len(rounds) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(rounds))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio returns the median over the rounds of a value divided by its base; false if it has none.
// Each round is divided by the same round of the base, because a disturbance of the machine that
// lasts longer than a round changes both.
func (r *result) ratio(v value) (float64, bool) {
	base, found := r.find(v.Quantity, v.Base)
	if v.Base == "" || !found || len(base.Rounds) != len(v.Rounds) {
		return 0, false
	}
	ratios := make([]float64, len(v.Rounds))
	for i := range v.Rounds {
		if base.Rounds[i] == 0 {
			return 0, false
		}
		ratios[i] = v.Rounds[i] / base.Rounds[i]
	}
	return median(ratios), true
}

// print writes the table. With an earlier result, the median and ratio of that stand beside.
func (r *result) print(w io.Writer, compare string) error {
	var old *result
	if compare != "" {
		text, err := os.ReadFile(compare)
		if err != nil {
			return err
		}
		old = &result{}
		if err := json.Unmarshal(text, old); err != nil {
			return fmt.Errorf("%s: %w", compare, err)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	quantity := ""
	for _, v := range r.Values {
		if v.Quantity != quantity {
			quantity = v.Quantity
			t.Flush() // the columns of each quantity have their own width
			fmt.Fprintf(w, "\n%s\n", quantity)
			fmt.Fprint(t, "median\tmin\tmax\tratio\t")
			if old != nil {
				fmt.Fprint(t, "before\tits ratio\t")
			}
			fmt.Fprintln(t)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t", number(median(v.Rounds)), number(slices.Min(v.Rounds)),
			number(slices.Max(v.Rounds)), r.ratioText(v))
		if old != nil {
			before, ratio := "", ""
			if o, found := old.find(v.Quantity, v.Candidate); found {
				before, ratio = number(median(o.Rounds)), old.ratioText(o)
			}
			fmt.Fprintf(t, "%s\t%s\t", before, ratio)
		}
		fmt.Fprintf(t, "  %s\n", v.Candidate)
	}
	return t.Flush()
}

func (r *result) ratioText(v value) string {
	ratio, found := r.ratio(v)
	if !found {
		return ""
	}
	text := fmt.Sprintf("%.2f", ratio)
	if v.Candidate == v.Base {
		text = "1"
	}
	return text
}

func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 1:
		return fmt.Sprintf("%.2f", f)
	default:
		return fmt.Sprintf("%.4f", f)
	}
}

func (r *result) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
