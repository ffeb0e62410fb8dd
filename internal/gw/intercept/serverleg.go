package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

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
func handshakeServer(ctx context.Context, conn *net.TCPConn, name string, alpn []string, profile *policy.Profile, all *sessions) (*leg, error) {
	addr := addrPort(conn.RemoteAddr())
	cfg := &tls.Config{
		ServerName: name, // none where the hello has none
		NextProtos: alpn,
		// The whole chain goes to the Verifier, on resumption too; crypto/tls
		// would end the handshake instead of telling.
		InsecureSkipVerify: true,
		MinVersion:         profile.MinVersion,
		MaxVersion:         profile.MaxVersion,
		CipherSuites:       cipherSuites(profile),
		ClientSessionCache: all.scope(addr, name, alpn, profile),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return nil, errClientCertificate
		},
		DynamicRecordSizingDisabled: true, // records are as long as the client's were
	}
	w := newWire(conn, nil)
	server := tls.Client(w, cfg)
	if err := server.HandshakeContext(ctx); err != nil {
		return nil, serverFailure(err, addr.String())
	}
	return &leg{tls: server, wire: w, name: "server"}, nil
}
