package object

// A Receipt is a promise that a key's use will be on record. Written keeps it,
// and returns why that is impossible: what the use gave must not leave the HSM
// before it has returned nil. It may be called more than once.
type Receipt interface{ Written() error }
