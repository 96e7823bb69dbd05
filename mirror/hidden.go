package mirror

import (
	"fmt"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// reasonHidden is why an object that hides uSNChanged is reported.
const reasonHidden = "this account cannot read it, so only full passes see changes of the object; give it the right"

// meetHidden looks for an object that hides uSNChanged. Such an object gains what was
// read of it and loses nothing: nothing shows which of two states is the later one, and no
// incremental pass sees it. What the pass does not find waits for the next pass.
func (r *reading) meetHidden(read *directory.Object, o *store.Object) {
	if read.USN != 0 || o.Deleted || !o.Container && !isRecipient(read, r.m.config.Rules) {
		return
	}
	o.Unsettled = !o.Container
	o.Unparsed++
	o.Unread = append([]store.UnreadValue{{Attribute: "usnchanged", Reason: reasonHidden}}, o.Unread...)
	if r.hidden == nil {
		r.hidden = map[store.GUID]bool{}
	}
	if r.hidden[o.GUID] = true; len(r.hidden) == 1 {
		r.firstHidden = o.DN
	}
}

// holdHidden returns why the removals of a pass wait that met objects which hide uSNChanged;
// empty: it met none, or only earlier passes found removals.
func (r *reading) holdHidden() (why string, err error) {
	if len(r.hidden) == 0 {
		return "", nil
	}
	if found, err := r.pass.HasNewMarks(); err != nil || !found {
		return "", err
	}
	why = fmt.Sprintf("%d objects hide uSNChanged from this account, the first is %q; give it the right to read them. "+
		"The next pass judges these removals", len(r.hidden), r.firstHidden)
	r.m.config.Log.Warn("removals wait for the next pass", "why", why)
	return why, nil
}

// maxLogged is how many values to be corrected a pass writes to the log.
const maxLogged = 20

// logUnread logs values that are to be corrected, each when it is met for the first time.
func (r *reading) logUnread(list []store.Unread) {
	for _, u := range list {
		if r.unread++; r.unread > maxLogged {
			continue
		}
		value := u.Value
		if r.m.limits.Load().ConcealValues && value != "" {
			value = "(concealed)"
		}
		r.m.config.Log.Warn("directory value needs correction",
			"dn", u.DN, "attribute", u.Attribute, "value", value, "reason", u.Reason)
	}
}

// logMoreUnread counts the values that logUnread left out.
func (r *reading) logMoreUnread() {
	if more := r.unread - maxLogged; more > 0 {
		r.m.config.Log.Warn("more directory values need correction; \"rcpt-milter status --json\" lists them", "count", more)
	}
	r.unread = 0
}
