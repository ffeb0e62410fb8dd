package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// A flow that a rule has decrypted is relayed undecrypted in two cases, each
// of which its profile must allow: its key is out of reach, or one of its sides
// speaks no TLS version of the profile's. It can only be done while nothing was
// sent to the client, which then sees the server itself, and the server's own
// certificate: never a leaf of ours in place of one that was not made.

// bypass returns why the flow may be relayed undecrypted after the failure;
// empty where it must end.
func (s *session) bypass(f *flow.Failure) flow.Bypass {
	profile := s.decision.Profile
	switch {
	case s.decision.Action != policy.Decrypt:
		return ""
	case errors.Is(f, flow.ErrUnavailable):
		if !profile.BlocksHSMUnavailable(s.kind) {
			return flow.BypassHSM
		}
	case errors.Is(f, errVersion):
		if !profile.BlocksUnsupportedVersion(s.kind) {
			return flow.BypassVersion
		}
	}
	return ""
}

// relayInstead relays a flow undecrypted whose handshakes cannot be made, and
// says so in its record and in the log. The server is asked anew where a
// handshake with it was begun.
func (s *session) relayInstead(ctx context.Context, why flow.Bypass, f *flow.Failure, hello []byte) *flow.Failure {
	s.record.Action, s.record.Bypass = string(policy.NoDecrypt), why
	s.record.Reason = fmt.Sprintf("NOT DECRYPTED (%s) although %s says to, since %s does not block it: %v",
		why, s.grounds(), s.decision.Profile, f.Err)
	s.record.ServerLeg, s.record.ClientLeg = nil, nil
	s.record.Verdict, s.record.VerdictDetail, s.record.Authority, s.record.Cached = flow.Unverified, "", "", false
	s.inspected.Store(false)
	s.options.Log.Warn("a flow is relayed undecrypted", slog.String("id", s.record.ID), slog.String("client", s.record.Client),
		slog.String("target", s.record.Target), slog.String("rule", s.decision.Rule), slog.String("bypass", string(why)), slog.Any("cause", f.Err))
	if s.serverUsed {
		if err := s.reconnect(ctx); err != nil {
			return s.alert(flow.FailureOf(err, flow.StageConnect))
		}
	}
	s.publish()
	return s.relayRaw(hello)
}

// grounds names what decided.
func (s *session) grounds() string {
	if s.decision.Rule == "" {
		return "the default"
	}
	return fmt.Sprintf("rule %q", s.decision.Rule)
}

// reconnect reaches the server anew, at the very address that was decided about.
func (s *session) reconnect(ctx context.Context) error {
	used := s.server
	at := addrPort(used.RemoteAddr())
	d := dialer{timeout: s.limits.DialTimeout}
	conn, err := d.dial(ctx, Target{Host: at.Addr().String(), Port: at.Port()})
	if err != nil {
		return err
	}
	used.Close()
	s.server = conn
	s.life.add(conn)
	return nil
}

// errVersion: a side speaks no version that the profile allows.
var errVersion = errors.New("no TLS version in common")

// versionError is an error that is errVersion too.
type versionError struct{ error }

func (versionError) Is(target error) bool { return target == errVersion }

func (e versionError) Unwrap() error { return e.error }

// isVersionRefusal reports whether a handshake with a server failed for its
// versions: by its alert, or because it chose one that was not offered, as
// those do that know nothing newer.
func isVersionRefusal(err error) bool {
	if alert, sent := remoteAlert(err); sent {
		return alert == alertProtocolVersion
	}
	return strings.HasPrefix(err.Error(), "tls: server selected unsupported protocol version")
}

// checkVersions refuses a client that speaks no version of the profile's,
// before the server is bothered.
func checkVersions(hello *flow.Hello, profile *policy.Profile) *flow.Failure {
	low, high, ok := profile.CheckVersions(hello.Versions)
	if ok {
		return nil
	}
	err := fmt.Errorf("client offers at most %s, %s asks for %s", tls.VersionName(high), profile, tls.VersionName(profile.MinVersion))
	if low > profile.MaxVersion {
		err = fmt.Errorf("client offers at least %s, %s allows up to %s", tls.VersionName(low), profile, tls.VersionName(profile.MaxVersion))
	}
	return &flow.Failure{Stage: flow.StagePolicy, Alert: alertProtocolVersion, Err: versionError{err}}
}
