// Package hsmlink is the gateway's way to its HSMs: which certificates prove
// both sides, how an administrator makes them known to each other, as what the
// gateway logs in, whether the HSMs are a group, and how each of them stands.
//
// A Manager lives as long as the gateway and owns the files. Each committed
// configuration gets a Link of its own, which holds the connections and
// rebuilds them when something is made known: a certificate, a password, a
// group. docs/hsm-link.md has the states, files, procedures and messages.
package hsmlink
