package web

import (
	"fmt"
	"strconv"
	"time"

	"rcpt-milter/control"
)

// Sizes of the chart of a day, with a bar for each span. The browser scales it.
const (
	chartSpan   = 10 * time.Minute
	chartBar    = 5 // width of a span
	chartHeight = 170
	chartFoot   = 26 // below the bars, for hours
	hourRoom    = 70 // for its text on a small screen
	chartLeft   = 60 // left of the bars, for counts on a small screen
	chartTop    = 22 // above the bars, for the highest count
	chartSteps  = 3  // at most so many counts on the y-axis
)

// chart is the data of the chart of a day.
type chart struct {
	Width, Height int
	Left, Bottom  int // of the bars
	Foot          int // of the hours
	Total         control.Judged
	Most          int64 // of one span
	Scale         int64 // recipients at the top of the y-axis
	Counts        []countMark
	Bars          []bar
	Hours         []hourMark
}

// countMark is a count on the y-axis.
type countMark struct {
	Y    float64
	Text string
}

// bar is the part of a span with one outcome.
type bar struct {
	Class     string // of the style
	X, Width  int
	Y, Height float64
	Title     string
}

// hourMark is an hour on the axis.
type hourMark struct {
	X    int
	Text string
}

func newChart(spans []Minute) chart {
	c := chart{Width: chartLeft + len(spans)*chartBar, Height: chartHeight + chartFoot, Left: chartLeft,
		Bottom: chartHeight, Foot: chartHeight + 20}
	for _, s := range spans {
		c.Total = c.Total.Plus(s.Judged)
		c.Most = max(c.Most, s.Total())
	}
	c.scale()
	for i, s := range spans {
		c.column(chartLeft+i*chartBar, s)
		if local := s.Start.Local(); local.Minute() == 0 && local.Hour()%4 == 0 {
			mark := hourMark{X: chartLeft + i*chartBar}
			if mark.X < c.Width-hourRoom {
				mark.Text = local.Format("15:04")
			}
			c.Hours = append(c.Hours, mark)
		}
	}
	return c
}

// scale sets the y-axis: from zero in whole steps to at least the highest span. Without recipients it has
// no counts.
func (c *chart) scale() {
	if c.Most <= 0 {
		return
	}
	step := roundStep((c.Most + chartSteps - 1) / chartSteps)
	for c.Scale < c.Most {
		c.Scale += step
	}
	for n := int64(0); n <= c.Scale; n += step {
		share := float64(n) / float64(c.Scale)
		c.Counts = append(c.Counts, countMark{chartHeight - share*(chartHeight-chartTop), shortCount(n)})
	}
}

// roundStep returns the least of 1, 2, 5, 10, 20, 50 and so on that is not below n.
func roundStep(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for _, step := range []int64{unit, 2 * unit, 5 * unit} {
			if step >= n {
				return step
			}
		}
	}
}

// shortCount returns a count in few characters, such as 500, 1.5k and 20M.
func shortCount(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= unit.size {
			return strconv.FormatFloat(float64(n)/float64(unit.size), 'f', -1, 64) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// column stacks the parts of a span, rejected recipients at the bottom.
func (c *chart) column(x int, s Minute) {
	top := float64(chartHeight)
	for _, part := range []struct {
		class, words string
		n            int64
	}{{"refused", "refused", s.Refused}, {"deferred", "deferred", s.Deferred},
		{"report-only", "would refuse", s.ReportOnly}, {"accepted", "accepted", s.Accepted}} {
		if part.n <= 0 {
			continue
		}
		height := float64(part.n) / float64(c.Scale) * (chartHeight - chartTop)
		height = max(height, 1) // keep one rejection among thousands visible
		top -= height
		c.Bars = append(c.Bars, bar{Class: part.class, X: x, Width: chartBar - 1, Height: height, Y: top,
			Title: fmt.Sprintf("%s: %d %s", s.Start.Local().Format("15:04"), part.n, part.words)})
	}
}
