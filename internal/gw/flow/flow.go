// Package flow holds the words of the gateway's data plane: what a client's
// hello said, what each leg of a connection negotiated, what verification said
// of the server, what was presented instead, and the record that is left of it
// all. It does no I/O and decides nothing.
//
// A flow has two legs: the client's (client to gateway) and the server's
// (gateway to server). A connection that is decrypted has TLS on both; one that
// is not has a single TLS session that the gateway only relays.
package flow

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Hello is what a client offered before anything was answered (RFC 8446,
// section 4.1.2), as far as a decision needs it.
type Hello struct {
	ServerName   string   // server_name (RFC 6066, section 3), lower case; empty if absent
	ALPN         []string // application_layer_protocol_negotiation (RFC 7301), in order
	Versions     []uint16 // TLS versions offered, highest first
	CipherSuites []uint16
	Groups       []tls.CurveID
	Signatures   []tls.SignatureScheme
}

// Kind is the way a flow came in.
type Kind string

const (
	Forward Kind = "forward" // through the proxy, to anywhere
	Inbound Kind = "inbound" // to a protected server
)

// Status is the one-word outcome of verifying a server's chain.
type Status string

const (
	Trusted       Status = "trusted"
	Expired       Status = "expired"        // or not valid yet
	SelfSigned    Status = "self-signed"    // the leaf is its own issuer and no root
	UnknownIssuer Status = "unknown-issuer" // no chain to a trusted root
	WrongName     Status = "wrong-name"     // chain fine, not for this name
	OwnAuthority  Status = "own-authority"  // issued by one of the gateway's own CAs
	Invalid       Status = "invalid"        // anything else: weak signature, bad constraint, malformed
	Unverified    Status = "not-verified"   // never looked at: not decrypted, or failed before
)

// Verdict is what verification said of a server's chain.
type Verdict struct {
	Status Status
	// Detail says why in a sentence; empty when trusted.
	Detail string
	// Faults is everything that is wrong, worst first, so that a profile
	// which blocks one of them blocks it also behind another: Status is the
	// first. Empty when trusted.
	Faults []Status
	// Chain is the verified chain, leaf first, root last; only when trusted.
	Chain []*x509.Certificate
	// Revocation says whether revocation was looked at: "not-checked" until it is.
	Revocation string
}

// CertifyRequest asks for the certificate to present to a client.
type CertifyRequest struct {
	Hello Hello
	// Name is the name the client asked for: the SNI, or else the CONNECT host.
	Name string
	// Protocol is the ALPN protocol that the server's leg negotiated; empty
	// for none. The client is offered exactly that.
	Protocol string
	// Upstream is the chain that the server presented, leaf first, as it is.
	Upstream []*x509.Certificate
	// Trust says which of the two authorities may sign: true only for a chain
	// that was verified.
	Trust bool
}

// Presented is the answer: all that the client's handshake needs, prebuilt.
type Presented struct {
	// Config is shared between connections and must not be changed.
	Config *tls.Config
	// Leaf is the certificate that Config presents, if it is known before the
	// handshake; nil where the hello chooses between several: then the
	// context's Meter tells of it (Meter.Presented).
	Leaf *x509.Certificate
	// Authority names the configured certificate that signed Leaf, or, inbound,
	// is presented itself.
	Authority string
	// Cached is true when no signature was needed for this connection's leaf.
	Cached bool
}

// Certifier makes what the gateway presents in a server's stead. It is called
// from many goroutines. An error is a *Failure whose stage names what was at
// fault; ctx bounds the call, key operations included.
type Certifier interface {
	Certify(ctx context.Context, req *CertifyRequest) (*Presented, error)
	// Ready reports, without waiting, why Certify cannot serve the name now:
	// nil when it can, from its cache or because its keys are at hand.
	Ready(name string) error
}

// Endpoints are the addresses of a flow.
type Endpoints struct {
	Client netip.AddrPort
	// Target is what the client asked for: host:port of CONNECT, or the
	// protected server's.
	Target string
	// Server is where the gateway connected to; zero before that.
	Server netip.AddrPort
}

// Stage is the step of a flow at which it failed.
type Stage string

const (
	StageRequest     Stage = "request"      // the proxy request itself
	StageDestination Stage = "destination"  // not a place that the proxy goes to
	StageHello       Stage = "client-hello" // no, or no usable, ClientHello
	StagePolicy      Stage = "policy"       // a rule or profile said no
	StageResolve     Stage = "resolve"      // name to address
	StageConnect     Stage = "connect"      // TCP to the server
	StageServerTLS   Stage = "server-tls"   // handshake with the server
	StageVerify      Stage = "verify"       // the server's chain, and the profile blocks it
	StageHSM         Stage = "hsm"          // the key that must sign or decrypt is out of reach
	StageCertify     Stage = "certify"      // making the leaf, other than the HSM
	StageClientTLS   Stage = "client-tls"   // handshake with the client
	StageRelay       Stage = "relay"        // while data passed
)

// TLS alert descriptions (RFC 8446, section 6.2) that a failure may send.
const (
	AlertHandshakeFailure   uint8 = 40
	AlertBadCertificate     uint8 = 42
	AlertCertificateExpired uint8 = 45
	AlertCertificateUnknown uint8 = 46
	AlertUnknownCA          uint8 = 48
	AlertAccessDenied       uint8 = 49
	AlertInternalError      uint8 = 80
)

// Failure is why a flow ended before its time: the stage for programs, the
// cause for people, the alert for the client.
type Failure struct {
	Stage Stage
	Alert uint8
	Err   error
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Stage, f.Err) }

func (f *Failure) Unwrap() error { return f.Err }

// FailureOf returns the Failure in err's chain, or a new one with the stage
// where there is none.
func FailureOf(err error, otherwise Stage) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Stage: otherwise, Alert: AlertInternalError, Err: err}
}

// ErrUnavailable is wrapped by the Failure of a flow whose private key is out
// of reach: its provider does not answer, or does not let the gateway in. A key
// that the provider has not got is another matter.
var ErrUnavailable = errors.New("key provider unavailable")

// Bypass is why a flow that a rule has decrypted was relayed undecrypted.
type Bypass string

const (
	BypassHSM     Bypass = "hsm-unavailable"     // its key was out of reach
	BypassVersion Bypass = "unsupported-version" // a side speaks no version of the profile's
)

// Sink takes the record of a flow that ended. It must not block the caller for
// long, and may be called from many goroutines.
type Sink interface {
	Write(*Record)
}

// Record is what is left of one flow.
type Record struct {
	ID        string    `json:"id"` // 16 random bytes in hex, also in the HSM's audit as the operation id
	Start     time.Time `json:"start"`
	Duration  Millis    `json:"duration_ms"`
	Kind      Kind      `json:"kind"`
	Client    string    `json:"client"`           // address:port
	Target    string    `json:"target"`           // what was asked for, host:port
	Server    string    `json:"server,omitempty"` // where the gateway went, address:port
	SNI       string    `json:"sni,omitempty"`
	Action    string    `json:"action"` // decrypt, no-decrypt, block, plain
	Rule      string    `json:"rule"`
	Reason    string    `json:"reason"`
	Bypass    Bypass    `json:"bypass,omitempty"` // set: not decrypted, although the rule says so
	ClientLeg *Leg      `json:"client_leg,omitempty"`
	ServerLeg *Leg      `json:"server_leg,omitempty"`

	Verdict       Status `json:"verdict"`
	VerdictDetail string `json:"verdict_detail,omitempty"`
	Revocation    string `json:"revocation"`

	Authority string `json:"authority,omitempty"` // configured certificate that signed or was presented
	Cached    bool   `json:"leaf_cached"`
	HSMCalls  int64  `json:"hsm_calls"`
	HSMTime   Millis `json:"hsm_time_ms"`

	BytesUp   int64 `json:"bytes_up"`   // client to server
	BytesDown int64 `json:"bytes_down"` // server to client

	FailureStage Stage  `json:"failure_stage,omitempty"`
	FailureCause string `json:"failure_cause,omitempty"`

	// Silent: the rule keeps it out of the logs; it is counted all the same.
	Silent bool `json:"-"`
}

// Leg is what one TLS session negotiated.
type Leg struct {
	Version     string       `json:"version"`
	Cipher      string       `json:"cipher"`
	Group       string       `json:"group,omitempty"`
	ALPN        string       `json:"alpn,omitempty"`
	Resumed     bool         `json:"resumed"`
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Certificate is a leaf certificate in a record.
type Certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"` // hexadecimal
	NotAfter time.Time `json:"not_after"`
	Key      string    `json:"key"` // e.g. RSA-2048, P-256
	SHA256   string    `json:"sha256"`
}

// Millis is a duration in JSON as milliseconds with three decimals.
type Millis time.Duration

func (m Millis) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", float64(m)/float64(time.Millisecond)), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Millis) UnmarshalJSON(b []byte) error {
	var ms float64
	if _, err := fmt.Sscanf(string(b), "%g", &ms); err != nil {
		return fmt.Errorf("reading milliseconds from %q: %w", b, err)
	}
	*m = Millis(ms * float64(time.Millisecond))
	return nil
}
