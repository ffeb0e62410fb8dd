package intercept

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"syscall"
	"time"

	"moongate/internal/gw/flow"
)

// The words that people read about a flow that failed, in records and in the
// answers of the proxy, are made in this file. Rules: they name what was at
// fault, and the remedy where there is one; they never hold what a stranger
// sent, unless it is quoted.

// Alerts that only this package sends (RFC 8446, section 6.2).
const (
	alertProtocolVersion      uint8 = 70
	alertUnsupportedExtension uint8 = 110
	alertUnrecognizedName     uint8 = 112
)

// record types and levels of an alert as it goes over the wire.
const (
	recordAlert = 0x15
	levelFatal  = 2
)

// errEarlyData: whoever resumes a session that it had with the server itself,
// before it came to use the gateway, is told to begin anew.
var errEarlyData = errors.New("the client sent early data (0-RTT) for a session that it has with the server, not with the gateway; its next attempt should do without")

// sendAlert ends a connection whose hello was read, and to which nothing was
// sent yet, with a fatal alert in the clear (RFC 8446, section 6).
func sendAlert(conn net.Conn, alert uint8) {
	writeLast(conn, []byte{recordAlert, 0x03, 0x03, 0, 2, levelFatal, alert})
}

// writeLast writes what is the last thing on a connection. The client may not
// be there any more, which its record says anyway.
func writeLast(conn net.Conn, b []byte) {
	conn.SetDeadline(time.Now().Add(time.Second))
	conn.Write(b)
}

// remoteAlert returns the alert that the other side sent, if it is why a
// handshake failed. crypto/tls wraps a number of a type that it keeps to itself.
func remoteAlert(err error) (uint8, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint()), true
	}
	return 0, false
}

// helloFailure says why there was no usable hello.
func helloFailure(err error, seen int, limits Limits) *flow.Failure {
	f := &flow.Failure{Stage: flow.StageHello, Alert: flow.AlertInternalError}
	switch {
	case errors.Is(err, errNotTLS), errors.Is(err, errLongHello):
		f.Err = err
	case isTimeout(err):
		f.Err = fmt.Errorf("no whole ClientHello within %v (%d bytes came)", limits.HelloTimeout, seen)
	case isGone(err) && seen == 0:
		f.Err = errors.New("the client closed the connection before its ClientHello")
	case isGone(err):
		f.Err = fmt.Errorf("the client closed the connection within its ClientHello, after %d bytes", seen)
	default:
		f.Err = fmt.Errorf("reading the ClientHello: %w", err)
	}
	return f
}

// serverFailure says why there is no TLS session with the server. The client
// gets the alert that the server sent, as it would without a gateway.
func serverFailure(err error, server string) *flow.Failure {
	f := &flow.Failure{Stage: flow.StageServerTLS, Alert: flow.AlertHandshakeFailure}
	if alert, ok := remoteAlert(err); ok {
		f.Alert = alert
		f.Err = fmt.Errorf("server %s ended the handshake: %w", server, tls.AlertError(alert))
		if isVersionRefusal(err) {
			f.Err = versionError{f.Err}
		}
		return f
	}
	switch {
	case isVersionRefusal(err):
		f.Alert = alertProtocolVersion
		f.Err = versionError{fmt.Errorf("server %s knows no version that the profile allows: %w", server, err)}
	case errors.Is(err, errClientCertificate):
		f.Err = fmt.Errorf("server %s %w", server, errClientCertificate)
	case isTimeout(err):
		f.Alert = flow.AlertInternalError
		f.Err = fmt.Errorf("server %s did not finish the handshake in time", server)
	case isGone(err):
		f.Err = fmt.Errorf("server %s closed the connection during the handshake", server)
	default:
		f.Err = fmt.Errorf("handshake with server %s: %w", server, err)
	}
	return f
}

// verifyFailure says why a server's certificate ends the flow.
func verifyFailure(v *flow.Verdict, reason string) *flow.Failure {
	alert := flow.AlertBadCertificate
	switch v.Status {
	case flow.Expired:
		alert = flow.AlertCertificateExpired
	case flow.SelfSigned, flow.UnknownIssuer, flow.OwnAuthority:
		alert = flow.AlertUnknownCA
	}
	err := errors.New(reason)
	if v.Detail != "" {
		err = fmt.Errorf("%s (%s)", reason, v.Detail)
	}
	return &flow.Failure{Stage: flow.StageVerify, Alert: alert, Err: err}
}

// clientFailure says why the handshake with the client failed once it had been
// shown a certificate.
func clientFailure(err error, meter *flow.Meter, authority string) *flow.Failure {
	if f := meter.Failure(); f != nil { // the key's error, which crypto/tls made a text of
		return f
	}
	f := &flow.Failure{Stage: flow.StageClientTLS, Alert: flow.AlertInternalError}
	alert, sent := remoteAlert(err)
	switch {
	case sent && alert == flow.AlertUnknownCA:
		f.Err = fmt.Errorf("client refused the certificate (unknown CA): is the CA certificate %q installed there?", authority)
	case sent && (alert == flow.AlertBadCertificate || alert == flow.AlertCertificateUnknown):
		f.Err = fmt.Errorf("client refused the certificate (%s): is the CA certificate %q installed there, or does the application accept only the server's own (pinning)?",
			alertName(alert), authority)
	case sent && alert == flow.AlertCertificateExpired:
		f.Err = errors.New("client refused the certificate (expired): do its clock and ours agree?")
	case sent:
		f.Err = fmt.Errorf("client ended the handshake (%s)", alertName(alert))
	case isTimeout(err):
		f.Err = errors.New("client did not finish the handshake in time")
	case isGone(err):
		f.Err = fmt.Errorf("client closed the connection when it was shown a certificate of %q", authority)
	default:
		f.Err = fmt.Errorf("handshake with the client: %w", err)
	}
	return f
}

// alertName is an alert's name without the package's prefix.
func alertName(alert uint8) string {
	return strings.TrimPrefix(tls.AlertError(alert).Error(), "tls: ")
}

// isTimeout reports that a deadline passed, a connection's or a context's.
func isTimeout(err error) bool {
	timed, ok := errors.AsType[net.Error](err)
	return ok && timed.Timeout()
}

// isGone reports that the other side ended the connection.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// answer is how the proxy says no in HTTP: a status, and the error type of
// Proxy-Status (RFC 9209, section 2.3).
type answer struct {
	status int
	kind   string
}

// answerTo chooses the answer to a proxy request that failed.
func answerTo(f *flow.Failure) answer {
	switch f.Stage {
	case flow.StageRequest:
		if errors.Is(f.Err, errTooMany) {
			return answer{http.StatusServiceUnavailable, "connection_limit_reached"}
		}
		return answer{http.StatusBadRequest, "http_request_error"}
	case flow.StageDestination:
		return answer{http.StatusForbidden, "destination_ip_prohibited"}
	case flow.StagePolicy:
		return answer{http.StatusForbidden, "http_request_denied"}
	case flow.StageHSM, flow.StageCertify:
		return answer{http.StatusServiceUnavailable, "proxy_internal_error"}
	case flow.StageResolve:
		dns, ok := errors.AsType[*net.DNSError](f.Err)
		switch {
		case ok && dns.IsTimeout || isTimeout(f.Err):
			return answer{http.StatusGatewayTimeout, "dns_timeout"}
		case ok && dns.IsNotFound:
			return answer{http.StatusBadGateway, "destination_not_found"}
		}
		return answer{http.StatusBadGateway, "dns_error"}
	case flow.StageConnect:
		switch netErr, ok := errors.AsType[net.Error](f.Err); {
		case ok && netErr.Timeout():
			return answer{http.StatusGatewayTimeout, "connection_timeout"}
		case errors.Is(f.Err, syscall.ECONNREFUSED):
			return answer{http.StatusBadGateway, "connection_refused"}
		case errors.Is(f.Err, syscall.ENETUNREACH), errors.Is(f.Err, syscall.EHOSTUNREACH):
			return answer{http.StatusBadGateway, "destination_ip_unroutable"}
		}
		return answer{http.StatusBadGateway, "destination_unavailable"}
	}
	return answer{http.StatusBadGateway, "connection_terminated"}
}

// refuse answers a proxy request with the failure in the clear: a status, a
// Proxy-Status header (RFC 9209) and a line of text.
func refuse(w http.ResponseWriter, f *flow.Failure) {
	a := answerTo(f)
	h := w.Header()
	h.Set("Proxy-Status", fmt.Sprintf("moongate; error=%s; details=%s", a.kind, quoteField(f.Error())))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	fmt.Fprintf(w, "moongate: %s\n", f.Error())
}

// quoteField writes an sf-string (RFC 8941, section 3.3.3): printable ASCII,
// with what is not as a question mark.
func quoteField(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r > 0x7e:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// broken is the failure of a flow whose handling panicked.
func broken() *flow.Failure {
	return &flow.Failure{Stage: flow.StageRelay, Alert: flow.AlertInternalError, Err: errors.New("the gateway itself failed; its log says more")}
}

// errTooMany ends a connection beyond the limit.
var errTooMany = errors.New("too many connections at a time")
