//go:build !race

package ha

// slowness is how much more patient groups are with members in tests.
const slowness = 1
