package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

var errClientCertificate = errors.New("asks for a client certificate, which the gateway does not have: such sites belong on the exclusion list")

// handshakeServer makes the TLS session with the server, with the client's own
// name and protocols, so that the server answers as it would have answered the
// client. Its chain is not judged here: an untrusted server is still talked to,
// and presented as what it is.
//
// The error is a *flow.Failure of StageServerTLS. The connection is the
// caller's to close.
func handshakeServer(ctx context.Context, conn *net.TCPConn, hello *flow.Hello, profile *policy.Profile, all *sessions) (*tls.Conn, error) {
	addr := addrPort(conn.RemoteAddr())
	cfg := &tls.Config{
		// Without a name in the hello there is none for the server.
		ServerName: hello.ServerName,
		NextProtos: hello.ALPN,
		// The whole chain goes to the Verifier, on resumption too; crypto/tls
		// would end the handshake instead of telling.
		InsecureSkipVerify: true,
		MinVersion:         profile.MinVersion,
		MaxVersion:         profile.MaxVersion,
		CipherSuites:       cipherSuites(profile),
		ClientSessionCache: all.scope(addr, hello.ServerName, hello.ALPN, profile),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return nil, errClientCertificate
		},
		DynamicRecordSizingDisabled: true, // records are as long as the client's were
	}
	server := tls.Client(&hold{conn}, cfg)
	if err := server.HandshakeContext(ctx); err != nil {
		return nil, serverFailure(err, addr.String())
	}
	return server, nil
}

// hold is a connection that crypto/tls does not close: see replay.Close.
type hold struct{ *net.TCPConn }

func (h *hold) Close() error { return h.SetDeadline(time.Unix(1, 0)) }

// cipherSuites returns the suites of TLS 1.2 that a profile allows; nil for
// crypto/tls's own list, which has forward secrecy throughout.
func cipherSuites(profile *policy.Profile) []uint16 {
	if !profile.RSAKeyExchange {
		return nil
	}
	var list []uint16
	for _, suite := range tls.CipherSuites() {
		list = append(list, suite.ID)
	}
	return append(list,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}
