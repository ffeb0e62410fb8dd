// Package ops is the one grammar of a gateway's operational commands, for the
// words of its CLI, the XML of its API, and the help of both.
package ops
