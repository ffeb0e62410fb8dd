// Package cli is a gateway's command line over SSH: operational commands from
// ops, configuration commands from the schema.
package cli
