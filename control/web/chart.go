package web

import (
	"fmt"
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
)

// chart is the data of the chart of a day.
type chart struct {
	Width, Height int
	Bottom, Foot  int // of the bars, and of the hours
	Total         control.Judged
	Most          int64 // of one span
	Bars          []bar
	Hours         []hourMark
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
	c := chart{Width: len(spans) * chartBar, Height: chartHeight + chartFoot, Bottom: chartHeight,
		Foot: chartHeight + 20}
	for _, s := range spans {
		c.Total = c.Total.Plus(s.Judged)
		c.Most = max(c.Most, s.Total())
	}
	for i, s := range spans {
		c.column(i*chartBar, s)
		if local := s.Start.Local(); local.Minute() == 0 && local.Hour()%4 == 0 {
			mark := hourMark{X: i * chartBar}
			if mark.X < c.Width-hourRoom {
				mark.Text = local.Format("15:04")
			}
			c.Hours = append(c.Hours, mark)
		}
	}
	return c
}

// column stacks the parts of a span, rejected recipients at the bottom.
func (c *chart) column(x int, s Minute) {
	top := float64(chartHeight)
	for _, part := range []struct {
		class, words string
		n            int64
	}{{"refused", "refused", s.Refused}, {"deferred", "deferred", s.Deferred},
		{"report-only", "report only", s.ReportOnly}, {"accepted", "accepted", s.Accepted}} {
		if part.n <= 0 {
			continue
		}
		height := float64(part.n) / float64(c.Most) * (chartHeight - 2)
		height = max(height, 1) // keep one rejection among thousands visible
		top -= height
		c.Bars = append(c.Bars, bar{Class: part.class, X: x, Width: chartBar - 1, Height: height, Y: top,
			Title: fmt.Sprintf("%s: %d %s", s.Start.Local().Format("15:04"), part.n, part.words)})
	}
}
