package daemon

import (
	"fmt"

	"rcpt-milter/store"
)

// storeAlarms returns the problems of the store, one sentence each.
func storeAlarms(h store.Health) []string {
	var alarms []string
	switch h.State {
	case store.NotUpdated:
		alarms = append(alarms, fmt.Sprintf("the index is not updated: %v", h.Err))
	case store.Damaged:
		alarms = append(alarms, fmt.Sprintf("the index is damaged, and recipients that it does not find get 451: %v",
			h.Err))
	case store.Unreadable:
		alarms = append(alarms, fmt.Sprintf("the index cannot be read, and its recipients get 451: %v", h.Err))
	}
	if h.SetAside != "" {
		alarms = append(alarms, fmt.Sprintf("a damaged store was set aside and rebuilt; check the disk, then remove %s",
			h.SetAside))
	}
	return alarms
}
