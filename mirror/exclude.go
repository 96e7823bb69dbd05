package mirror

import (
	"context"
	"fmt"
	"time"
)

// checkExcluded warns about an excluded subtree that does not exist. A misspelt or renamed subtree excludes
// nothing, so its objects count as recipients. No recipient is rejected because of that, so the pass continues.
func (m *Mirror) checkExcluded(ctx context.Context, source Source) error {
	for _, dn := range m.config.Rules.Exclude {
		there, err := source.Exists(ctx, dn)
		if err != nil {
			return err
		}
		var missing error
		if !there {
			missing = fmt.Errorf("exclude: %q does not exist in the directory, so it excludes nothing; "+
				"correct or remove it", dn)
		}
		if fresh := m.setWarning("exclude "+dn, missing, 2*m.config.Full+time.Hour); fresh && missing != nil {
			m.config.Log.Warn("excluded subtree does not exist", "exclude", dn)
		}
	}
	return nil
}
