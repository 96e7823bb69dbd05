package console

import (
	"fmt"
	"strconv"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// Fleet writes the table of the edges of a hub, and what needs attention.
func (w Writer) Fleet(p *terminal.Page, s control.Status) {
	if len(s.Publish) == 0 {
		p.Title("This daemon publishes no directory; run the command at the hub, or set publish in its configuration.")
	}
	for _, d := range s.Publish {
		p.WriteString("Directory " + text.Printable(d.Directory) + "\n")
		w.publishLines(p, d)
	}
	w.engineLines(p, s.Engine)
	rows := s.FleetRows(w.Now())
	w.fleetTable(p, rows)
	if len(rows) == 0 && len(s.Publish) > 0 {
		p.WriteString("\nNo edge has reported yet.\n")
	}
	for _, row := range rows {
		w.edgeTrouble(p, row)
	}
}

// fleetTable writes a row for each edge.
func (w Writer) fleetTable(p *terminal.Page, rows []control.FleetRow) {
	table := [][]string{{"Edge", "Directory", "Version", "State", "Index", "Addresses", "Behind", "Lag", "Reported"}}
	for _, row := range rows {
		equal := "equal"
		if !row.DigestOK {
			equal = "differs"
		}
		table = append(table, []string{text.Printable(row.Name), text.Printable(row.Directory),
			text.Printable(row.Version), stateText(row.State), equal, text.Number(row.Addresses),
			strconv.FormatUint(row.Behind, 10), lagText(row.Lag), text.Age(w.Now(), row.Reported.Time)})
	}
	p.Table(table, 5, 6, 7)
}

// lagText returns seconds with the digits that matter.
func lagText(seconds float64) string {
	if seconds >= 10 {
		return text.Duration(time.Duration(seconds * float64(time.Second)))
	}
	return fmt.Sprintf("%.2f s", seconds)
}

// edgeTrouble writes what needs attention at an edge.
func (w Writer) edgeTrouble(p *terminal.Page, row control.FleetRow) {
	if row.Healthy() {
		return
	}
	p.WriteString("\n" + text.Printable(row.Name) + ", directory " + text.Printable(row.Directory) + "\n")
	switch row.State {
	case control.EdgeSilent:
		p.Line("silent", p.Warn("no report since "+w.At(row.Reported)+"; check the edge and its connection"))
	case control.Fresh:
	default:
		p.Line("state", StateWords(p, row.State)+stateMeanings[row.State])
	}
	if row.LastError != "" {
		p.Line("error", p.Warn(text.Printable(row.LastError)))
	}
	if row.Held > 0 {
		p.Line("removals held", p.Warn(text.Count(row.Held, "address", "addresses")+", still accepted there"))
		p.More("run \"rcpt-milter removals\" at the edge")
	}
	if !row.DigestOK && row.State != control.EdgeSilent {
		p.Line("index", p.Warn("differs from that of the hub, or was not compared yet"))
	}
}
