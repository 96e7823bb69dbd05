package console

import (
	"fmt"
	"strings"
	"time"

	"rcpt-milter/control"
	"rcpt-milter/internal/terminal"
	"rcpt-milter/internal/text"
)

// stateText returns a state in words.
func stateText(s control.State) string {
	return strings.ReplaceAll(text.Printable(string(s)), "_", " ")
}

// linkLine writes the connection to an engine.
func (w Writer) linkLine(p *terminal.Page, l control.LinkStatus) {
	switch {
	case l.Connected:
		p.Line("stream", "connected to "+text.Printable(l.Server))
	case l.Since.IsZero():
		p.Line("stream", p.Warn("not connected yet"))
	default:
		p.Line("stream", p.Warn("not connected since "+w.At(l.Since)))
	}
	if l.LastError != "" && !l.Connected {
		p.More(text.Printable(l.LastError))
	}
	if !l.CertificateExpires.IsZero() {
		p.Line("certificates", w.expiryText(p, "one ", l.CertificateExpires))
	}
}

// expiryWarning is how long before an expiry it is highlighted.
const expiryWarning = 30 * 24 * time.Hour

// expiryText says how long something is valid. subject begins the sentence if it expires soon: "one " of several.
func (w Writer) expiryText(p *terminal.Page, subject string, at control.Time) string {
	date := at.In(w.Now().Location()).Format("2006-01-02")
	switch left := at.Sub(w.Now()); {
	case left <= 0:
		return p.Warn(subject + "expired on " + date)
	case left < expiryWarning:
		return p.Warn(subject + "expires on " + date)
	}
	return "valid until " + date
}

// streamLines writes how a directory is followed over a stream.
func (w Writer) streamLines(p *terminal.Page, d control.DirectoryStatus) {
	s := d.Stream
	w.linkLine(p, s.Link)
	if s.Hub == "" {
		p.Line("hub", "no state read yet")
		return
	}
	p.Line("hub", text.Printable(s.Hub)+", version "+text.Printable(s.HubVersion))
	if s.Controller != "" {
		p.Line("domain controller", text.Printable(s.Controller)+", followed by the hub")
	}
	if !s.AsOf.IsZero() {
		p.Line("as of", w.At(s.AsOf)+", the last good pass of the hub")
	}
	p.Line("sequence", fmt.Sprintf("%d of %d, %s", d.USN, d.HighestCommittedUSN, lagWords(d, false)))
	p.Line("generation", text.Printable(s.Generation))
	switch {
	case s.DigestOK == nil:
		p.Line("index", "not compared with the hub yet")
	case *s.DigestOK:
		p.Line("index", "equals that of the hub")
	default:
		p.Line("index", p.Warn("differs from that of the hub"))
	}
	if s.TooLarge > 0 {
		p.Line("too large",
			p.Warn(text.Count(s.TooLarge, "object has", "objects have")+" more addresses than a message can "+
				"hold, and keeps what the index has; unknown recipients are deferred"))
		p.More("split the object into several in Active Directory")
	}
	if s.Unreadable > 0 {
		p.Line("unreadable", p.Warn(text.Count(s.Unreadable, "object keeps its", "objects keep their")+
			" addresses, because this version cannot read the messages of the hub"))
	}
}

// publishLines writes how this hub publishes a directory.
func (w Writer) publishLines(p *terminal.Page, s control.PublishStatus) {
	w.linkLine(p, s.Link)
	switch {
	case s.Leading:
		p.Line("lease", "held by this hub")
	case s.Holder != "":
		p.Line("lease", "held by hub "+text.Printable(s.Holder)+"; this one takes over if that one stops")
	default:
		p.Line("lease", p.Warn("no hub is known to hold it"))
	}
	if !s.Published.IsZero() {
		p.Line("published", fmt.Sprintf("sequence %d, %s", s.Sequence, text.Age(w.Now(), s.Published.Time)))
	}
	if s.Pending > 0 {
		p.Line("pending", text.Count(s.Pending, "object", "objects")+" not published yet")
	}
	if s.TooLarge > 0 {
		p.Line("too large", p.Warn(text.Count(s.TooLarge, "object has", "objects have")+" too many addresses for a "+
			"message, so edges defer unknown recipients; split the object into several"))
	}
	if s.LastError != "" && (s.Link.Connected || s.LastError != s.Link.LastError) {
		since := ""
		if !s.FailingSince.IsZero() {
			since = "failing since " + w.At(s.FailingSince) + ": "
		}
		p.Line("error", p.Warn(since+text.Printable(s.LastError)))
	}
}

// publishSection writes the published directories and the edges of a status.
func (w Writer) publishSection(p *terminal.Page, s control.Status) {
	for _, d := range s.Publish {
		p.WriteString("\nPublished directory " + text.Printable(d.Directory) + "\n")
		w.publishLines(p, d)
		healthy := 0
		rows := control.Status{Publish: []control.PublishStatus{d}}.FleetRows(w.Now())
		for _, row := range rows {
			if row.Healthy() {
				healthy++
			}
		}
		edges := fmt.Sprintf("%d of %d fresh and equal", healthy, len(rows))
		if healthy < len(rows) {
			edges = p.Warn(edges)
		}
		if len(rows) == 0 {
			edges = "none has reported yet"
		}
		p.Line("edges", edges)
		if len(rows) > 0 {
			p.More("\"rcpt-milter fleet status\" shows each of them")
		}
	}
	if s.Engine != nil {
		p.WriteString("\nEngine\n")
		w.engineLines(p, s.Engine)
	}
}

// engineLines writes the state of the engine of this daemon.
func (w Writer) engineLines(p *terminal.Page, e *control.EngineStatus) {
	if e == nil {
		return
	}
	if !e.Running {
		p.Line("engine", p.Warn("does not run: "+text.Printable(e.LastError)))
		return
	}
	state := "listens on " + text.Printable(e.Listen) + ", ready"
	if !e.Ready {
		state = p.Warn("listens on " + text.Printable(e.Listen) + ", not ready")
	}
	p.Line("engine", state)
	if !e.Ready && e.LastError != "" {
		p.More(text.Printable(e.LastError))
	}
	if e.Nodes > 0 {
		nodes := fmt.Sprintf("node %s, connected to %d of %d others", text.Printable(e.Node), e.Peers, e.Nodes-1)
		if e.Peers < e.Nodes-1 {
			nodes = p.Warn(nodes)
		}
		p.Line("cluster", nodes)
	}
	p.Line("clients", fmt.Sprintf("%s connected, %d enrolled", text.Number(int64(e.Clients)), e.Members))
	if len(e.Flooding) > 0 {
		p.Line("kept out",
			p.Warn(text.Printable(strings.Join(e.Flooding, ", "))+", for a minute after sending far too much"))
	}
	p.Line("disk", fmt.Sprintf("%.1f of %d MiB in %s", float64(e.Disk)/(1<<20), e.MaxDisk>>20,
		text.Count(int64(e.Streams), "stream", "streams")))
	if !e.Expires.IsZero() {
		p.Line("certificates", w.expiryText(p, "one ", e.Expires))
	}
}
