package testenv

// Progress tells a person what is being done. It is called when a step starts and
// what it returns is called when the step has ended. Steps do not overlap. Nil is
// silence.
type Progress func(step string) (end func(err error))

// run runs one step under p.
func (p Progress) run(name string, do func() error) error {
	if p == nil {
		return do()
	}
	end := p(name)
	err := do()
	end(err)
	return err
}
