package store

import "testing"

// TestFeedIsSwitchedBesidePasses: every reload switches the feeds off that nothing publishes, while
// passes replace the records of their directories. It is a test for the race detector.
func TestFeedIsSwitchedBesidePasses(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 20_000 {
			if err := s.SetFeed("corp", false); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		pass(t, s, "corp", Full, start, "", object(t, 1, "a@x.test"))
	}
}
