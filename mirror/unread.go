package mirror

import "rcpt-milter/store"

// maxLoggedValues limits the values that one pass logs.
const maxLoggedValues = 20

// logUnread logs values that need correction, each only when it is first seen.
func (r *passRun) logUnread(list []store.Unread) {
	for _, u := range list {
		if r.unreadValues++; r.unreadValues > maxLoggedValues {
			continue
		}
		value := u.Value
		if r.m.limits.Load().RedactValues && value != "" {
			value = "(redacted)"
		}
		r.m.config.Log.Warn("directory value needs correction",
			"dn", u.DN, "attribute", u.Attribute, "value", value, "reason", u.Reason)
	}
}

// logMoreUnread logs the number of values that logUnread omitted.
func (r *passRun) logMoreUnread() {
	if more := r.unreadValues - maxLoggedValues; more > 0 {
		r.m.config.Log.Warn("more directory values need correction; \"rcpt-milter status --json\" lists them",
			"count", more)
	}
	r.unreadValues = 0
}
