//go:build !race

package store

// raceDetector reports that the race detector is on.
const raceDetector = false
