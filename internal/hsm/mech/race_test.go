//go:build race

package mech_test

const raceDetector = true
