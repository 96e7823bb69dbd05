package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rcpt-milter/directory"
	"rcpt-milter/store"
)

// reasonHidden is the reason that is reported for an object whose uSNChanged is hidden.
const reasonHidden = "this account cannot read it, so only full passes see changes of the object; give it the right"

// markHidden handles an object whose uSNChanged is hidden. Such an object gains the addresses that were read
// and loses none, because two of its states cannot be ordered and no incremental pass sees it. The next pass
// judges the addresses that this pass does not find.
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

// holdHidden returns why the removals of a pass are held because of objects whose uSNChanged is hidden. It
// returns an empty string if there are none, or if all marks are from earlier passes.
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

// reasonChangesHidden is the reason of the passes after one that found uSNChanged hidden on all objects.
const reasonChangesHidden = "no object showed uSNChanged, so changes could not be seen"

// noteChangesHidden records that uSNChanged is hidden on all objects, or no longer so. An incremental pass would
// see no change and no error. So all passes are full until one succeeds, and the index ages.
func (m *Mirror) noteChangesHidden(r PassResult) {
	switch {
	case errors.Is(r.Err, directory.ErrChangesHidden):
		m.changesHidden = true
	case r.Err == nil && r.Info.Kind == store.Full:
		m.changesHidden = false
	}
}

// usnCheckInterval is the shortest interval between two checks of uSNChanged.
const usnCheckInterval = 10 * time.Minute

// usnCheck is when uSNChanged was last checked, and how long the next check waits.
type usnCheck struct {
	at    time.Time
	pause time.Duration
}

// errUSNHidden ends an incremental pass that is repeated as a full one.
var errUSNHidden = errors.New("recipients in the index no longer show uSNChanged")

// checkUSNShown looks at some recipients if an incremental pass has seen no object although the controller has
// changes. If none of them shows uSNChanged, only a full pass can tell whether any object does. After such a full pass,
// the next check waits as long as the next periodic one.
func (r *passRun) checkUSNShown(ctx context.Context, since uint64) error {
	m, now := r.m, r.m.config.Now()
	if r.seen > 0 || r.root.HighestCommittedUSN == since || m.config.Rules.Published ||
		!isOver(m.usnChecked.at, now, m.usnChecked.pause) {
		return nil
	}
	m.usnChecked = usnCheck{now, usnCheckInterval}
	some, err := m.someOwners()
	if err != nil {
		return storeError{err}
	}
	shown, hidden := 0, 0
	err = m.source.ReadObjects(ctx, some, func(read []directory.Object) error {
		for _, o := range read {
			if o.USN == 0 {
				hidden++
			} else {
				shown++
			}
		}
		return nil
	})
	if err != nil && !endsPass(ctx, err) {
		m.config.Log.Warn("cannot check that recipients still show uSNChanged", "error", err)
		return nil
	}
	if err != nil || shown > 0 || hidden == 0 {
		return err
	}
	m.usnChecked.pause = max(m.config.Full, usnCheckInterval)
	return errUSNHidden
}
