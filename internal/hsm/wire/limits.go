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
	MaxRoles      = 16   // of a partition
	MaxPolicies   = 256  // of a partition

	MaxAAD       = 64 << 10
	MaxIV        = 64
	MaxSalt      = 4 << 10 // of HKDF; its info too
	MaxPeer      = 256     // a public key
	MaxPlaintext = 512 << 10
	MaxMessage   = MaxPlaintext      // what is signed or verified: a digest, or a whole message
	MaxData      = MaxPlaintext + 64 // ciphertext: nonce and tag added; any answer's bytes
	MaxSignature = 1 << 10
	MaxWrapped   = 64 << 10
	MaxRandom    = 64 << 10

	MaxCertificate = 4 << 10 // an HSM's identity, DER
	MaxDomain      = 32      // a domain's identity
	MaxCloneDetail = 512     // of one object's outcome

	MaxNote     = 4 << 10 // a signed checkpoint
	MaxVerifier = 512     // the key that verifies it
	MaxProof    = 128     // hashes in one proof: a tree of 2^63 leaves needs no more
)
