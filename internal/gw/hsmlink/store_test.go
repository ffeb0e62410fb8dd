package hsmlink

import (
	"errors"
	"os"
	"strings"
	"testing"

	"moongate/client"
	"moongate/internal/gw/vault"
)

// TestStore: what is kept of servers survives, and what is damaged is refused
// in words.
func TestStore(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	s := g.m.store
	a, b := passwordOf{"a", client.RoleCryptoOfficer}, passwordOf{"b", client.RoleCryptoOfficer}
	user := passwordOf{"a", client.RoleCryptoUser}
	if _, err := s.password(a); !errors.Is(err, errNotGiven) {
		t.Errorf("no password: %v", err)
	}
	must(t, s.setPassword(a, []byte("one"), true))
	must(t, s.setPassword(b, []byte("two"), false))
	must(t, s.change("a", func(state *serverState) { state.Partition, state.Role = "p", "crypto-officer" }))
	reopen := func() {
		t.Helper()
		var err error
		s, err = openStore(g.hsmDir(), g.vault.Device(), quiet, s.now)
		must(t, err)
	}
	reopen()
	if password, err := s.password(a); err != nil || string(password) != "one" {
		t.Errorf("a kept password: %q, %v", password, err)
	}
	if _, err := s.password(b); !errors.Is(err, errNotGiven) {
		t.Errorf("a password that was not kept: %v", err)
	}
	if got := s.get("a"); got.Partition != "p" || s.role("a") != client.RoleCryptoOfficer {
		t.Errorf("kept of a: %+v", got)
	}
	must(t, s.setPassword(user, []byte("three"), true))
	must(t, s.forgetPassword(a))
	if s.role("a") != client.RoleCryptoUser {
		t.Error("the role without a password is chosen")
	}
	must(t, s.refused(user, "0")) // another one was given since
	if err := s.has(user); err != nil {
		t.Errorf("an earlier password was refused: %v", err)
	}
	must(t, s.refused(user, s.generation(user)))
	reopen()
	if _, err := s.password(user); !errors.Is(err, errRefused) {
		t.Errorf("a password that was refused: %v", err)
	}
	must(t, s.setPassword(user, []byte("four"), true))
	reopen()
	if password, err := s.password(user); err != nil || string(password) != "four" {
		t.Errorf("a new password: %q, %v", password, err)
	}

	// One server's password is not another's.
	must(t, s.setPassword(a, []byte("one"), true))
	text, err := os.ReadFile(s.passwordFile(a))
	must(t, err)
	must(t, os.WriteFile(s.passwordFile(b), text, 0o600))
	if _, err := s.password(b); !errors.Is(err, vault.ErrChanged) {
		t.Errorf("a password in another server's place: %v", err)
	}

	for name, text := range map[string]string{
		"noise": "x", "an unknown field": `{"a":{"password":"x"}}`, "nothing of a server": `{"a":null}`, "too much": strings.Repeat(" ", maxStateFile+1),
	} {
		must(t, os.WriteFile(s.path(stateFile), []byte(text), 0o600))
		if _, err := openStore(g.hsmDir(), g.vault.Device(), quiet, s.now); err == nil || !strings.Contains(err.Error(), "restore it, or remove it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// figure is the value of a metric.
func (g *gateway) figure(name string, labels ...string) float64 {
	g.t.Helper()
	families, err := g.registry.Gather()
	must(g.t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if strings.Join(got, " ") == strings.Join(labels, " ") {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	g.t.Errorf("there is no %s of %v", name, labels)
	return 0
}
