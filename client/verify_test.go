package client

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

func TestVerifyNamesTheStage(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	other := newToken(t)

	for _, test := range []struct {
		name   string
		token  func(*token)
		config func(*Config)
		stage  Stage // that fails; empty for none
		err    string
		fix    string
	}{
		{name: "all is well"},
		{name: "no role", config: func(c *Config) { c.Role = RoleNone }},
		{name: "no such name", config: func(c *Config) { c.Address = "no-such-host.invalid:1" }, stage: StageName, err: "no-such-host.invalid", fix: "resolver"},
		{name: "nobody listens", config: func(c *Config) { c.Address = nobody }, stage: StageTCP, err: "refused", fix: "HSM runs"},
		{name: "another server", config: func(c *Config) { c.ServerCertificates = mustCertificates(t, other.certificate) }, stage: StageTLS, err: "pinned is", fix: "fetch its server.pem"},
		{name: "not registered", token: func(k *token) { k.attach = object.Errorf(object.ErrNotRegistered, "certificate x") }, stage: StageRegistered, err: "certificate x", fix: "client register"},
		{name: "other address", token: func(k *token) { k.attach = object.Errorf(object.ErrAddress, "") }, stage: StageRegistered, err: "another address", fix: "comes from|come from"},
		{name: "not assigned", config: func(c *Config) { c.Partition = "p2" }, stage: StageAssigned, err: "not assigned", fix: "assignPartition"},
		{name: "wrong password", token: func(k *token) { k.password = "other" }, stage: StageLogin, err: "incorrect", fix: "right password"},
		{name: "locked", token: func(k *token) { k.locked = true }, stage: StageLogin, err: "locked", fix: "reset"},
		{name: "no password", config: func(c *Config) { c.Password = func() ([]byte, error) { return nil, errors.New("vault is sealed") } }, stage: StageLogin, err: "vault is sealed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newToken(t)
			if test.token != nil {
				test.token(k)
			}
			k.run(t)
			config := k.config(t)
			if test.config != nil {
				test.config(&config)
			}
			results, err := Verify(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			failed := false
			stages := stagesOf(&config)
			for i, r := range results {
				if r.Stage != stages[i] {
					t.Fatalf("step %d is %s, want %s", i, r.Stage, stages[i])
				}
				switch {
				case r.Stage == test.stage:
					failed = true
					if r.OK || r.Skipped || r.Err == nil || !strings.Contains(r.Err.Error(), test.err) || !containsOne(r.Fix, test.fix) {
						t.Errorf("%+v", r)
					}
				case failed, r.Stage == StageLogin && config.Role == RoleNone:
					if r.OK || !r.Skipped || r.Err != nil {
						t.Errorf("%+v, want it skipped", r)
					}
				default:
					if !r.OK || r.Skipped || r.Err != nil || r.Detail == "" {
						t.Errorf("%+v, want it passed", r)
					}
				}
			}
			// A client says the same.
			c, err := Dial(t.Context(), config)
			if err == nil {
				c.Close()
			}
			var stage Stage
			if e, is := errors.AsType[*Error](err); is {
				stage = e.Stage
			}
			if stage != test.stage {
				t.Errorf("Dial: %v, want stage %q", err, test.stage)
			}
		})
	}
}

func containsOne(s, of string) bool {
	for option := range strings.SplitSeq(of, "|") {
		if strings.Contains(s, option) {
			return true
		}
	}
	return false
}

func TestPinErrorSaysBothFingerprints(t *testing.T) {
	t.Parallel()
	k, other := newToken(t), newToken(t)
	k.run(t)
	config := k.config(t)
	config.ServerCertificates = mustCertificates(t, other.certificate)
	_, err := Dial(t.Context(), config)
	pin, is := errors.AsType[*PinError](err)
	if !is || pin.Seen != Fingerprint(k.certificate.Certificate[0]) || pin.Pinned[0] != Fingerprint(other.certificate.Certificate[0]) {
		t.Fatalf("Dial: %v", err)
	}
	if text := err.Error(); !strings.Contains(text, pin.Seen) || !strings.Contains(text, pin.Pinned[0]) {
		t.Errorf("the text is %q", text)
	}
	// One of two pins is enough: a certificate can be replaced without a gap.
	config.ServerCertificates = mustCertificates(t, other.certificate, k.certificate)
	dial(t, config)
}

// A server that is not an HSM, and one that says nothing, end in time and at
// their stage.
func TestOtherServers(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	for name, test := range map[string]struct {
		serve func(net.Conn)
		stage Stage
	}{
		"closes": {func(c net.Conn) {}, StageTLS},
		"no TLS": {func(c net.Conn) { c.Write([]byte("220 ready\r\n")); c.Read(make([]byte, 1)) }, StageTLS},
		"silent": {func(c net.Conn) { c.Read(make([]byte, 10000)); c.Read(make([]byte, 1)) }, StageTLS},
		"no ALPN": {func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{k.certificate}})
			s.Read(make([]byte, 1))
		}, StageTLS},
		"no Hello": {func(c net.Conn) { serveTLS(c, k.certificate, nil) }, StageRegistered},
		"garbage":  {func(c net.Conn) { serveTLS(c, k.certificate, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, StageRegistered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				test.serve(c)
			}()
			config := (&token{address: listener.Addr().String(), certificate: k.certificate}).config(t)
			config.ConnectTimeout = 500 * time.Millisecond
			c, err := Dial(t.Context(), config)
			if err == nil {
				c.Close()
			}
			if e, is := errors.AsType[*Error](err); !is || e.Stage != test.stage {
				t.Errorf("Dial: %v, want stage %s", err, test.stage)
			}
		})
	}
}

func serveTLS(c net.Conn, certificate tls.Certificate, say []byte) {
	s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"moongate-hsm"}})
	s.Read(make([]byte, 1000))
	s.Write(say)
	s.Read(make([]byte, 1))
}
