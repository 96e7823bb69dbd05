package testenv

// Progress reports the steps of a longer operation. It is called when a step starts; the function
// it returns is called when the step ends. Steps do not overlap. Nil reports nothing.
type Progress func(step string) (end func(err error))

// run runs one step and reports it to p.
func (p Progress) run(name string, do func() error) error {
	if p == nil {
		return do()
	}
	end := p(name)
	err := do()
	end(err)
	return err
}
