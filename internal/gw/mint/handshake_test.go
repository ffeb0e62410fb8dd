package mint

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"moongate/internal/gw/flow"
)

// handshake connects a client to what was presented, lets it read a byte, so
// that it has its session ticket, and returns what it saw.
func handshake(t *testing.T, presented *flow.Presented, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	near, far := connect(t)
	defer near.Close()
	served := make(chan error, 1)
	go func() {
		defer far.Close()
		server := tls.Server(far, presented.Config)
		if err := server.HandshakeContext(t.Context()); err != nil {
			served <- err
			return
		}
		_, err := server.Write([]byte{1})
		served <- err
	}()
	near.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(near, client)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		near.Close()
		<-served
		return tls.ConnectionState{}, err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("reading: %v", err)
	}
	near.Close()
	if err := <-served; err != nil {
		t.Errorf("server: %v", err)
	}
	return conn.ConnectionState(), nil
}

// connect returns both ends of a TCP connection. A net.Pipe would not do: its
// writes wait for the reader, and a client that refuses a certificate does not
// read the rest of the server's flight.
func connect(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chain := w.server("www.example.com")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocol := range []string{"", "h2", "http/1.1"} {
			t.Run(tls.VersionName(version)+" "+protocol, func(t *testing.T) {
				t.Parallel()
				req := trusted("www.example.com", chain)
				req.Protocol = protocol
				client := &tls.Config{ServerName: "www.example.com", RootCAs: w.pool(trustECDSA), MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}}
				state, err := handshake(t, w.certify(req), client)
				if err != nil {
					t.Fatal(err)
				}
				if state.Version != version || state.NegotiatedProtocol != protocol {
					t.Errorf("%s and %q were negotiated", tls.VersionName(state.Version), state.NegotiatedProtocol)
				}
				if len(state.PeerCertificates) != 1 {
					t.Errorf("%d certificates were presented, want the leaf without its root", len(state.PeerCertificates))
				}
			})
		}
	}
	t.Run("TLS 1.1 is refused", func(t *testing.T) {
		t.Parallel()
		client := &tls.Config{ServerName: "www.example.com", RootCAs: w.pool(trustECDSA), MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}
		if _, err := handshake(t, w.certify(trusted("www.example.com", chain)), client); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("untrusted", func(t *testing.T) {
		t.Parallel()
		client := &tls.Config{ServerName: "www.example.com", RootCAs: w.pool(trustECDSA, trustRSA)}
		if _, err := handshake(t, w.certify(untrusted("www.example.com", chain)), client); err == nil {
			t.Error("the client accepted a leaf of forward-untrust")
		}
	})
	t.Run("a client that only knows RSA", func(t *testing.T) {
		t.Parallel()
		suites := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		req := trusted("www.example.com", w.serverWith(testRSA(2), named("www.example.com")))
		req.Hello = flow.Hello{Versions: []uint16{tls.VersionTLS12}, CipherSuites: suites}
		client := &tls.Config{ServerName: "www.example.com", RootCAs: w.pool(trustRSA), MaxVersion: tls.VersionTLS12, CipherSuites: suites}
		if _, err := handshake(t, w.certify(req), client); err != nil {
			t.Error(err)
		}
	})
}

// TestIntermediateAuthority: the chain that is presented leads to the root,
// without it.
func TestIntermediateAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.issue(nil, "corporate root", newECDSA(t), isCA)
	key := newECDSA(t)
	middle := w.issue(root, "corporate middle", newECDSA(t), isCA)
	sub := w.issue(middle, "gateway", key, isCA)
	w.provider.Add(key)
	m, err := New(Options{Trust: Authorities{ECDSA: w.add("gateway", sub.cert, middle.cert, root.cert)}, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Certify(t.Context(), trusted("www.example.com", w.server("www.example.com")))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	state, err := handshake(t, p, &tls.Config{ServerName: "www.example.com", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	if len(state.PeerCertificates) != 3 {
		t.Errorf("%d certificates were presented, want 3", len(state.PeerCertificates))
	}
}

// TestResumption: a ticket is good for the leaf and protocol under which it
// was issued, and for no other, even where the client would try.
func TestResumption(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			chain := w.server("www.example.com")
			w.certify(trusted("www.example.com", chain))

			// The client trusts both authorities, so that nothing but the
			// ticket's key keeps it from resuming.
			client := func() *tls.Config {
				return &tls.Config{
					ServerName: "www.example.com", MaxVersion: version,
					RootCAs:            w.pool(trustECDSA, trustRSA, untrustECDSA),
					ClientSessionCache: tls.NewLRUClientSessionCache(8),
				}
			}
			for name, other := range map[string]func() *flow.CertifyRequest{
				"the same":                 func() *flow.CertifyRequest { return trusted("www.example.com", chain) },
				"the same chain untrusted": func() *flow.CertifyRequest { return untrusted("www.example.com", chain) },
				"another chain":            func() *flow.CertifyRequest { return trusted("www.example.com", w.server("www.example.com")) },
				"an RSA authority": func() *flow.CertifyRequest {
					return trusted("www.example.com", w.serverWith(testRSA(2), named("www.example.com")))
				},
				"another protocol": func() *flow.CertifyRequest {
					req := trusted("www.example.com", chain)
					req.Protocol = "h2"
					return req
				},
			} {
				config := client()
				for range 2 {
					// Resumed at the second time: the cache of sessions works.
					if _, err := handshake(t, w.certify(trusted("www.example.com", chain)), config); err != nil {
						t.Fatal(err)
					}
				}
				presented := w.certify(other())
				state, err := handshake(t, presented, config)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if state.DidResume != (name == "the same") {
					t.Errorf("%s: resumed is %v", name, state.DidResume)
				}
				if !state.DidResume && !state.PeerCertificates[0].Equal(presented.Leaf) {
					t.Errorf("%s: the client saw another leaf than was presented", name)
				}
			}
		})
	}
}
