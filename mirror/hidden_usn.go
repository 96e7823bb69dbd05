package mirror

import (
	"fmt"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// reasonHidden is the reason reported for an object that hides uSNChanged.
const reasonHidden = "this account cannot read it, so only full passes see changes of the object; give it the right"

// markHidden handles an object that hides uSNChanged. Such an object gains the addresses
// that were read and loses none: there is no way to order two of its states, and no
// incremental pass sees it. Addresses that the pass does not find are judged by the next
// pass.
func (r *passRun) markHidden(read *directory.Object, o *store.Object) {
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

// holdHidden returns why the removals of a pass are held that met objects which hide
// uSNChanged; empty if there were none, or if all marks are from earlier passes.
func (r *passRun) holdHidden() (why string, err error) {
	if len(r.hidden) == 0 {
		return "", nil
	}
	if found, err := r.pass.HasNewMarks(); err != nil || !found {
		return "", err
	}
	why = fmt.Sprintf("%d objects hide uSNChanged from this account, the first is %q; give it the right to read them. "+
		"The next pass evaluates these removals", len(r.hidden), r.firstHidden)
	r.m.config.Log.Warn("removals wait for the next pass", "why", why)
	return why, nil
}
