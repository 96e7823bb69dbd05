//go:build race

package store

// raceDetector reports that the race detector is on. It makes a commit many times slower.
const raceDetector = true
