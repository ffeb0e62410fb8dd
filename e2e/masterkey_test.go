package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/e2e/world"
	"moongate/internal/gw/daemon"
	"moongate/internal/gw/keys"
)

// The master keys that the tests give.
const (
	firstMaster  = "the first master key, 4711"
	secondMaster = "the second master key, 0815"
)

// softKey makes a software key in the candidate.
func softKey(ctx context.Context, a *xmlAPI, name string) error {
	_, err := a.op(ctx, "<request><certificate><generate><certificate-name>"+name+"</certificate-name><name>"+name+
		"</name><algorithm>ECDSA</algorithm></generate></certificate></request>")
	return err
}

// signs has a software key sign a request for its certificate.
func signs(ctx context.Context, a *xmlAPI, name string) error {
	request, err := a.op(ctx, "<request><certificate><csr><certificate-name>"+name+"</certificate-name></csr></certificate></request>")
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(between(strings.ReplaceAll(request, "&#xA;", "\n"), "<csr>", "</csr>")))
	if block == nil {
		return fmt.Errorf("no request in %s", request)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return csr.CheckSignature()
}

// masterKey is a request master-key with arguments, in turn.
func masterKey(ctx context.Context, a *xmlAPI, args ...string) (string, error) {
	var b strings.Builder
	for i := 0; i+1 < len(args); i += 2 {
		fmt.Fprintf(&b, "<%s>%s</%[1]s>", args[i], args[i+1])
	}
	return a.op(ctx, "<request><master-key>"+b.String()+"</master-key></request>")
}

func rotate(ctx context.Context, a *xmlAPI) (string, error) {
	return a.op(ctx, "<request><hsm><mkey-wrapping-key-rotation></mkey-wrapping-key-rotation></hsm></request>")
}

// masterKeyWorld is a gateway with a software key, and two HSMs in a group.
type masterKeyWorld struct {
	t     *testing.T
	group *world.Group
	g     *world.Gateway
	api   *xmlAPI
}

func newMasterKeyWorld(t *testing.T) *masterKeyWorld {
	t.Helper()
	w := world.T(t)
	m := &masterKeyWorld{t: t, group: w.Group(nil, world.OnLoopback("127.0.0.4"), world.OnLoopback("127.0.0.5"))}
	link, err := m.group.RegisterFrom(t.Context(), nil, "gw")
	must(t, err)
	m.g = w.Gateway(link, world.GatewaySettings{NoECDSA: true})
	m.api = newXMLAPI(t, m.g)
	m.live(2)
	must(t, softKey(t.Context(), m.api, "soft"))
	must(t, m.api.commit(t.Context(), ""))
	must(t, signs(t.Context(), m.api, "soft"))
	return m
}

// live waits until the gateway has so many live members of its group.
func (m *masterKeyWorld) live(want int) {
	m.t.Helper()
	(&setting{t: m.t, gateway: m.g}).membersLive(want)
}

// says wants an answer without error in which words are.
func (m *masterKeyWorld) says(answer string, err error, words ...string) {
	m.t.Helper()
	must(m.t, err)
	for _, word := range words {
		if !strings.Contains(answer, word) {
			m.t.Errorf("%q is not in %s", word, answer)
		}
	}
}

// refused wants an answer with an error in which words are.
func (m *masterKeyWorld) refused(err error, words ...string) {
	m.t.Helper()
	if !errors.Is(err, errRefused) {
		m.t.Errorf("not refused: %v", err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			m.t.Errorf("%q is not in %v", word, err)
		}
	}
}

func (m *masterKeyWorld) show(words ...string) string {
	m.t.Helper()
	open, end := "", ""
	for _, word := range words {
		open, end = open+"<"+word+">", "</"+word+">"+end
	}
	answer, err := m.api.op(m.t.Context(), "<show>"+open+end+"</show>")
	must(m.t, err)
	return answer
}

// onDisk wants that no file of the gateway holds any of the words, but in an
// HSM's; and that the master key's file is there or not.
func (m *masterKeyWorld) onDisk(file bool) {
	m.t.Helper()
	must(m.t, filepath.WalkDir(m.g.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, secret := range []string{firstMaster, secondMaster, m.group.Partition.CryptoOfficer} {
			if bytes.Contains(text, []byte(secret)) {
				m.t.Errorf("%s holds %q", path, secret)
			}
		}
		return err
	}))
	for _, secret := range []string{firstMaster, secondMaster, m.group.Partition.CryptoOfficer} {
		if strings.Contains(m.g.Log(), secret) {
			m.t.Errorf("the gateway's messages hold %q", secret)
		}
	}
	_, err := os.Lstat(filepath.Join(daemon.In(m.g.Dir).Vault(), "master.key"))
	if (err == nil) != file {
		m.t.Errorf("the master key's file: %v; should it be there: %v", err, file)
	}
}

// ready asks the gateway whether it is, and for the reason.
func (m *masterKeyWorld) ready() string {
	m.t.Helper()
	resp, err := http.Get("http://" + m.g.Metrics + "/health/ready")
	must(m.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(m.t, err)
	return strings.TrimSpace(string(text))
}

// TestMasterKeyOnHSM stores the master key on a group of two HSMs, and takes
// them away in every way: at boot, while it runs, one of them during a rotation,
// the wrapping key for good, and the gateway itself.
func TestMasterKeyOnHSM(t *testing.T) {
	t.Parallel()
	m := newMasterKeyWorld(t)
	ctx := t.Context()

	answer, err := masterKey(ctx, m.api, "on-hsm", "yes")
	m.says(answer, err, "wrapped by moongate-mkey-", "made at random")
	answer, err = masterKey(ctx, m.api, "new-master-key", firstMaster, "lifetime", "24", "reminder", "24")
	m.says(answer, err, "Strength of the new master key", "wrapped by moongate-mkey-")
	if got := m.show("system", "masterkey-properties"); !strings.Contains(got, "<on-hsm>yes</on-hsm>") {
		t.Errorf("properties %s", got)
	}
	m.onDisk(false)

	// Both HSMs away at boot.
	must(t, m.g.Close())
	for _, h := range m.group.HSMs {
		h.Kill9()
	}
	must(t, m.g.Start(ctx))
	if got := m.show("system", "info"); !strings.Contains(got, "<device-state>degraded</device-state>") || !strings.Contains(got, "the master key is on the HSM and is not unlocked yet") {
		t.Errorf("with the HSMs away the gateway says %s", got)
	}
	if got := m.ready(); got == "ready" {
		t.Error("with the HSMs away the gateway is ready")
	}
	if got := m.show("system", "masterkey-properties"); !strings.Contains(got, "<on-hsm>yes</on-hsm>") {
		t.Errorf("properties while locked %s", got)
	}
	m.refused(softKey(ctx, m.api, "refused"), "not unlocked yet")
	m.refused(signs(ctx, m.api, "soft"), "not unlocked yet")
	_, err = masterKey(ctx, m.api, "new-master-key", secondMaster, "current-master-key", firstMaster, "lifetime", "24")
	m.refused(err, "not unlocked yet")
	must(t, m.api.set(ctx, systemPath, "<hostname>without</hostname>"))
	must(t, m.api.commit(ctx, ""))
	if list := m.show("certificate", "all"); !strings.Contains(between(list, `<entry name="soft">`, "</entry>"), "<key>unavailable</key>") {
		t.Errorf("certificates while locked: %s", list)
	}

	// One comes: the gateway becomes whole by itself.
	must(t, m.group.HSMs[1].Restart(ctx))
	back := time.Now()
	eventually(t, returnsWithin, func() error { return signs(ctx, m.api, "soft") })
	t.Logf("the software key signs %v after an HSM was there", time.Since(back).Round(time.Millisecond))
	eventually(t, returnsWithin, func() error {
		if got := m.ready(); got != "ready" {
			return errors.New(got)
		}
		return nil
	})

	// It goes again: what is open stays so.
	m.group.HSMs[1].Kill9()
	must(t, signs(ctx, m.api, "soft"))
	must(t, softKey(ctx, m.api, "later"))
	for _, h := range m.group.HSMs {
		must(t, h.Restart(ctx))
	}
	m.live(2)

	// A rotation that one member misses.
	m.group.HSMs[1].Kill9()
	m.live(1)
	answer, err = rotate(ctx, m.api)
	m.says(answer, err, "Wrapping key rotated successfully", "Not known to hold it: hsm2")
	if list := m.show("hsm", "mkey-wrapping-keys"); strings.Count(list, "<entry") != 2 || !strings.Contains(list, "wraps it, too") {
		t.Errorf("wrapping keys %s", list)
	}
	must(t, m.group.HSMs[1].Restart(ctx))
	eventually(t, time.Minute, func() error {
		if list := m.show("hsm", "mkey-wrapping-keys"); strings.Contains(list, "wraps it, too") || strings.Count(list, "<use>retired</use>") != 1 {
			return fmt.Errorf("wrapping keys %s", list)
		}
		return nil
	})
	m.live(2)

	m.loseWrappingKeys()
	m.restore()
}

// group dials the group as its Crypto Officer.
func (m *masterKeyWorld) officer() *ha.Group {
	m.t.Helper()
	settings, err := m.group.Config(client.RoleCryptoOfficer, func(address string) string { return address })
	must(m.t, err)
	g, err := ha.Open(settings)
	must(m.t, err)
	m.t.Cleanup(func() { g.Close() })
	must(m.t, g.ReadyAll(m.t.Context()))
	return g
}

// loseWrappingKeys has somebody destroy all of them on the HSMs: the
// administrator enters the master key again.
func (m *masterKeyWorld) loseWrappingKeys() {
	t, ctx := m.t, m.t.Context()
	t.Helper()
	officer := m.officer()
	found, err := officer.Find(ctx, client.NewTemplate(client.NumberAttr(client.AttrClass, uint64(client.ClassSecretKey))), client.AttrLabel)
	must(t, err)
	destroyed := 0
	for _, f := range found {
		if strings.HasPrefix(f.Attributes.Text(client.AttrLabel), keys.WrappingPrefix) {
			must(t, officer.Destroy(ctx, f.ID))
			destroyed++
		}
	}
	if destroyed != 2 {
		t.Errorf("%d wrapping keys were there, want 2", destroyed)
	}
	must(t, m.g.Close())
	must(t, m.g.Start(ctx))
	m.live(2)
	eventually(t, returnsWithin, func() error {
		if got := m.show("system", "info"); !strings.Contains(got, "request master-key recover") {
			return errors.New(got)
		}
		return nil
	})
	recover := func(key string) (string, error) {
		return m.api.op(ctx, "<request><master-key><recover><master-key>"+key+"</master-key></recover></master-key></request>")
	}
	_, err = recover(secondMaster)
	m.refused(err, "the current master key is wrong")
	answer, err := recover(firstMaster)
	m.says(answer, err, "The master key is unlocked", "It is wrapped by the new wrapping key moongate-mkey-")
	must(t, signs(ctx, m.api, "soft"))
	must(t, m.g.Close())
	must(t, m.g.Start(ctx))
	eventually(t, returnsWithin, func() error { return signs(ctx, m.api, "soft") })
}

// restore makes the gateway anew of its backup on an empty disk: with the HSM,
// and with the master key alone.
func (m *masterKeyWorld) restore() {
	t, ctx := m.t, m.t.Context()
	t.Helper()
	program, err := world.Program(ctx, "moongate")
	must(t, err)
	file := filepath.Join(t.TempDir(), "gateway.backup")
	out, err := typed(t, "the passphrase of it\n", program, "backup", "-out", file, "-data", m.g.Dir)
	m.says(out, err, "stored on the HSM", "holds the wrapping key moongate-mkey-", "or the master key as it was given")
	must(t, m.g.Close())
	lost := m.g.Dir + ".lost"
	must(t, os.Rename(m.g.Dir, lost))
	out, err = typed(t, "the passphrase of it\n", program, "restore", file, "-data", m.g.Dir)
	m.says(out, err, "holds the wrapping key moongate-mkey-")
	must(t, m.g.Start(ctx))
	m.api = newXMLAPI(t, m.g)
	eventually(t, returnsWithin, func() error { return signs(ctx, m.api, "soft") })
	m.onDisk(false)

	// The HSMs are lost for good: at the console of the stopped gateway.
	if out, err := typed(t, firstMaster+"\n", program, "master-key", "recover", "-data", m.g.Dir); err == nil || !strings.Contains(out, "the gateway runs") {
		t.Errorf("while it runs: %v, %s", err, out)
	}
	must(t, m.g.Close())
	for _, h := range m.group.HSMs {
		h.Kill9()
	}
	if out, err := typed(t, secondMaster+"\n", program, "master-key", "recover", "-data", m.g.Dir); err == nil || !strings.Contains(out, "the current master key is wrong") {
		t.Errorf("another master key: %v, %s", err, out)
	}
	out, err = typed(t, firstMaster+"\n", program, "master-key", "recover", "-data", m.g.Dir)
	m.says(out, err, "in the gateway's file again")
	must(t, m.g.Start(ctx))
	must(t, signs(ctx, m.api, "soft"))
	m.onDisk(true)
}

// TestWrappingKeysOfACryptoUser: a gateway that logs in as the Crypto User asks
// for the Crypto Officer's password where a wrapping key is made, keeps none, and
// unlocks without.
func TestWrappingKeysOfACryptoUser(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{NoECDSA: true})
	c := s.cli(t)
	api := newXMLAPI(t, s.gateway)
	must(t, softKey(t.Context(), api, "soft"))
	must(t, api.commit(t.Context(), ""))
	c.run(0, "y\n", "request hsm logout")
	c.run(0, s.partition.CryptoUser+"\n", "request hsm login role crypto-user password")

	const rotation = "request hsm mkey-wrapping-key-rotation"
	if out := c.run(1, "", "request master-key on-hsm yes"); !strings.Contains(out, "hsm-password is asked for") {
		t.Errorf("without the Crypto Officer's password: %s", out)
	}
	if out := c.run(1, "not the password\n", "request master-key on-hsm yes"); strings.Contains(out, "changed successfully") {
		t.Errorf("with a wrong password: %s", out)
	}
	if out := c.run(0, s.partition.CryptoOfficer+"\n", "request master-key on-hsm yes"); !strings.Contains(out, "wrapped by moongate-mkey-") {
		t.Errorf("with the Crypto Officer's password: %s", out)
	}
	if _, err := rotate(t.Context(), api); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "Crypto Officer") {
		t.Errorf("a rotation by the API, which nobody can ask: %v", err)
	}
	if out := c.run(0, s.partition.CryptoOfficer+"\n", rotation); !strings.Contains(out, "rotated successfully") {
		t.Errorf("a rotation: %s", out)
	}
	if out := c.run(0, "", "show hsm mkey-wrapping-keys"); strings.Count(out, "moongate-mkey-") != 2 || !strings.Contains(out, "retired") {
		t.Errorf("wrapping keys: %s", out)
	}
	must(t, s.gateway.Close())
	must(t, s.gateway.Start(t.Context()))
	eventually(t, returnsWithin, func() error { return signs(t.Context(), api, "soft") })
	if out := c.run(1, "", rotation); !strings.Contains(out, "password is asked for") {
		t.Errorf("the Crypto Officer's password was kept: %s", out)
	}
}
