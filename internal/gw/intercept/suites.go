package intercept

import (
	"crypto/tls"

	"moongate/internal/gw/policy"
)

// rsaSuites are the cipher suites of TLS 1.2 with RSA key exchange (RFC 5246,
// section 7.4.7.1) that crypto/tls has, in its order.
var rsaSuites = []uint16{
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// cipherSuites returns the suites of TLS 1.2 that a profile allows; nil for
// crypto/tls's own list, which has forward secrecy throughout.
func cipherSuites(profile *policy.Profile) []uint16 {
	switch {
	case profile.NoECDHE:
		return rsaSuites
	case !profile.RSAKeyExchange:
		return nil
	}
	var list []uint16
	for _, suite := range tls.CipherSuites() {
		list = append(list, suite.ID)
	}
	return append(list, rsaSuites...)
}
