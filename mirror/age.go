package mirror

import "time"

// Age returns the age of the last good pass, and whether it is known. State depends on both.
func (m *Mirror) Age() (age time.Duration, known bool) {
	stored := m.stored.Load()
	age, known = m.age(stored)
	return age, known && !m.lastGood(stored).IsZero()
}
