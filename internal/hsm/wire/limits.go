package wire

import "moongate/internal/hsm/object"

// Version is the one version of the protocol that this package speaks. Hello
// alone keeps its layout in all versions.
const Version uint16 = 1

// ALPN names the protocol in the TLS handshake.
const ALPN = "moongate-hsm"

// DefaultPort is where an HSM listens.
const DefaultPort = "1792"

// Limits. A decoder refuses what is over them before it allocates anything.
const (
	MaxFrame      = 1 << 20 // bytes after the length field
	MaxHelloFrame = 1 << 10 // the same, before the client is known

	MaxSoftware = 128 // bytes of text
	MaxSerial   = 64
	MaxName     = object.MaxLabel // a partition's label
	MaxDetail   = 1 << 10
	MaxPassword = 256

	MaxPartitions = 1024 // in one answer
	MaxFind       = 1024 // objects in one answer

	MaxAAD       = 64 << 10
	MaxDigest    = 64
	MaxPlaintext = 512 << 10
	MaxData      = MaxPlaintext + 64 // ciphertext: nonce and tag added; any answer's bytes
	MaxWrapped   = 64 << 10
	MaxRandom    = 64 << 10
)
