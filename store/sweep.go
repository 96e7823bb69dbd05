package store

import (
	"errors"
	"slices"
)

// Saw reports whether a full pass has applied an object.
func (p *Pass) Saw(guid GUID) bool { return p.seen.has(guid) }

// Unseen returns the stored objects that a full pass has not applied and could see. Sweep treats
// them as gone. A controller may skip an object that exists, so the caller reads them by their
// GUIDs first.
func (p *Pass) Unseen() ([]GUID, error) {
	if p.unseen == nil {
		if err := p.scanUnseen(); err != nil {
			return nil, err
		}
	}
	*p.unseen = slices.DeleteFunc(*p.unseen, p.Saw)
	return slices.Clone(*p.unseen), nil
}

// scanUnseen finds what Unseen returns, and the objects that the pass cannot see. No other pass
// adds objects meanwhile.
func (p *Pass) scanUnseen() error {
	var missing, invisible []GUID
	err := p.s.scan(dirKey(prefixObject, p.dir.record.id), true, func(kv pair) error {
		if isPart(kv.key) {
			return nil
		}
		if guid := guidOf(kv.key); !p.seen.has(guid) {
			missing = append(missing, guid)
		}
		return nil
	})
	if err == nil && p.visible != nil {
		missing = slices.DeleteFunc(missing, func(guid GUID) bool {
			stored, failed := p.s.object(p.dir.record.id, guid)
			err = errors.Join(err, failed)
			if failed != nil || p.visible(stored.dn) {
				return false
			}
			invisible = append(invisible, guid)
			return true
		})
	}
	if err != nil {
		return err
	}
	p.unseen, p.invisible = &missing, invisible
	return nil
}

// Sweep marks what a full pass did not see. Before it, the caller reads once more,
// incrementally, from where the pass began. During the read, an address may have moved from an
// object that was read late to one that was read early.
func (p *Pass) Sweep() error {
	if p.seen == nil {
		return errors.New("store: sweep of an incremental pass")
	}
	missing, err := p.Unseen()
	if err != nil {
		return err
	}
	if err := writeInChunks(p.s, missing, p.markMissing); err != nil {
		return err
	}
	if err := writeInChunks(p.s, p.invisible, p.clearOtherRules); err != nil {
		return err
	}
	return p.repairOwners()
}

// markMissing marks the addresses of an object that the pass did not see.
func (p *Pass) markMissing(t *tx, guid GUID) error {
	stored, err := t.object(p.dir.record.id, guid)
	if err != nil {
		return err
	}
	missing := missingObject(guid, stored)
	missing.Read = p.reached
	var c Changes
	err = p.apply(t, missing, &c)
	p.info.Changed += c.Changed
	return err
}
