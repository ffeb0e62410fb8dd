// Package server accepts an HSM's clients, decodes what they ask (package
// wire, docs/wire.md) and calls a Backend, which alone says yes or no. It
// holds no key and no permission.
package server
