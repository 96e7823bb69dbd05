package store

// StoredName gives the name under which an object is stored, by this pass or before it;
// empty: it is not.
func (p *Pass) StoredName(guid GUID) (string, error) {
	stored, err := p.s.object(p.dir.record.id, guid)
	return stored.dn, err
}
