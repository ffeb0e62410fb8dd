// Package jobs is the table of a gateway's long operations: what is queued,
// what runs, how far it is, and what came of it.
package jobs
