package vault_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/partition"
)

const (
	officer = "so-password"
	co      = "co-password"
	cu      = "cu-password"
)

// hsm is a real HSM with a partition p, served in this process.
type hsm struct {
	t       *testing.T
	dir     string
	address string
	client  tls.Certificate
	stop    func()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHSM(t *testing.T) *hsm {
	t.Helper()
	h := &hsm{t: t, dir: filepath.Join(t.TempDir(), "hsm"), address: "127.0.0.1:0"}
	_, err := daemon.Init(daemon.InitOptions{Dir: h.dir, Label: "test", Hosts: []string{"127.0.0.1"}, Officer: []byte(officer)})
	must(t, err)
	certificate, key, err := client.NewCertificate("gateway")
	must(t, err)
	h.client, err = tls.X509KeyPair(certificate, key)
	must(t, err)
	a, err := daemon.Open(daemon.Options{Dir: h.dir, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	by := partition.Operator{Name: "test", From: "here"}
	o, err := a.HSM.AuthenticateOfficer(t.Context(), by, []byte(officer))
	must(t, err)
	must(t, o.CreatePartition(t.Context(), "p"))
	must(t, o.InitCryptoOfficer(t.Context(), "p", []byte(co)))
	must(t, a.HSM.InitCryptoUser(t.Context(), by, "p", []byte(co), []byte(cu)))
	must(t, o.RegisterClient(t.Context(), partition.Registration{Name: "gateway", Address: "127.0.0.1", Certificate: certificate}))
	must(t, o.AssignPartition(t.Context(), "gateway", "p"))
	must(t, a.Close())
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start serves the HSM until stop is called, from then on at the same address.
func (h *hsm) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Dir: h.dir, Listen: h.address, Logger: slog.New(slog.DiscardHandler), Ready: func(at daemon.Addresses) { ready <- at.NTLS },
		})
	}()
	select {
	case h.address = <-ready:
	case err := <-ended:
		cancel()
		h.t.Fatalf("starting the HSM: %v", err)
	}
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			h.t.Errorf("stopping the HSM: %v", err)
		}
		h.stop = func() {}
	}
}

// link is the gateway's way to the HSM, as a role.
func (h *hsm) link(role client.Role, password string) keys.Link {
	h.t.Helper()
	pinned, err := client.LoadCertificates(daemon.In(h.dir).Certificate())
	must(h.t, err)
	c, err := client.Open(client.Config{
		Address: h.address, ServerCertificates: pinned, Certificate: h.client, Partition: "p", Role: role,
		Password: func() ([]byte, error) { return []byte(password), nil }, MaxBackoff: 50 * time.Millisecond,
	})
	must(h.t, err)
	l := keys.Network(c)
	h.t.Cleanup(func() { l.Close() })
	return l
}

// TestRealHSM stores the master key on a real HSM as its Crypto Officer; from
// then on the Crypto User unlocks it. The HSM is away at times.
func TestRealHSM(t *testing.T) {
	t.Parallel()
	h := newHSM(t)
	way := keys.NewSwitch()
	way.Set(h.link(client.RoleCryptoOfficer, co))
	must(t, way.Ready(t.Context()))
	dir := filepath.Join(t.TempDir(), "vault")
	open := func() *vault.Vault {
		t.Helper()
		v, err := vault.Open(dir, vault.Options{Wrapper: way})
		must(t, err)
		return v
	}
	v := open()
	text, err := v.Seal("private-key", []byte("secret"))
	must(t, err)
	opens := func() {
		t.Helper()
		if got, err := v.Open("private-key", text); err != nil || string(got) != "secret" {
			t.Fatalf("opened as %q, %v", got, err)
		}
	}
	yes := true
	must(t, v.ChangeMaster(t.Context(), vault.Change{OnHSM: &yes, Lifetime: time.Hour}))
	if _, err := os.Lstat(v.MasterKeyFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the master key's file: %v", err)
	}
	first := v.Properties().WrappingKey
	second, err := v.RotateWrapping(t.Context())
	must(t, err)
	if missing, err := v.SettleWrapping(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("missing %q, %v", missing, err)
	}
	list, err := way.Keys(t.Context())
	must(t, err)
	if len(list) != 2 || list[0].Ref != first && list[1].Ref != first || v.Properties().WrappingKey != second || v.Properties().Wraps != 1 {
		t.Errorf("wrapping keys %+v; the vault %+v", list, v.Properties())
	}
	must(t, v.Close())

	// The Crypto User, at a start without the HSM.
	h.stop()
	must(t, way.Set(h.link(client.RoleCryptoUser, cu)).Close())
	v = open()
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := v.Unlock(short); !errors.Is(err, vault.ErrLocked) || !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("without the HSM: %v", err)
	}
	if _, err := v.Open("private-key", text); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("locked, it opens with %v", err)
	}
	h.start()
	must(t, way.Ready(t.Context()))
	must(t, v.Unlock(t.Context()))
	opens()
	h.stop()
	opens()
	_, err = v.RenewDataKeys()
	must(t, err)
	h.start()
	must(t, way.Ready(t.Context()))
	if _, err := v.RotateWrapping(t.Context()); err == nil {
		t.Error("a Crypto User made a wrapping key")
	}
	must(t, v.Close())
	v = open()
	must(t, v.Unlock(t.Context()))
	opens()
	must(t, v.Close())
}
