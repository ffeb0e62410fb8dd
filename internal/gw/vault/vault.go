// Package vault seals the secrets of a gateway: those of its configuration
// under data keys that a master key wraps, those that a start needs before the
// HSM answers under a key of the device.
package vault
