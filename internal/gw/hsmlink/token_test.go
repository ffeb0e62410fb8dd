package hsmlink

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/gw/p11host"
	"moongate/internal/p11/p11test"
)

// TestToken: a PKCS#11 module's token, behind moongate-p11: without a PIN, with
// a wrong one, with the right one, and after a restart.
func TestToken(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), p11host.Program)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "moongate/cmd/moongate-p11").CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", p11host.Program, err, out)
	}
	store := p11test.NewStore(t, "gateway")
	g := newGateway(t, nil)
	g.module, g.environment = program, []string{store.Env()}
	must(t, g.m.Close())
	g.start()
	c := &config.HSM{Provider: config.PKCS11HSM, Module: &config.PKCS11Module{Path: p11test.Module, Token: "gateway"}}
	g.use(c)
	name := tokenName(c.Module)
	g.shows(name, "login", CodeNoPassword, prompt)
	var e *Error
	list, err := g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte("wrong-pin"), Keep: true})
	if err != nil || len(list) != 1 || !errors.As(list[0].Err, &e) || e.Code != CodeWrongPassword {
		t.Fatalf("a wrong PIN: %+v, %v", list, err)
	}
	g.shows(name, "login", CodeWrongPassword, prompt)
	list, err = g.m.Login(t.Context(), LoginRequest{Role: client.RoleCryptoOfficer, Password: []byte(p11test.PIN), Keep: true})
	if err != nil || list[0].Err != nil || list[0].Partition.Label != "gateway" {
		t.Fatalf("the right PIN: %+v, %v", list, err)
	}
	g.shows(name, StateAuthenticated, "", prompt)
	g.sign()
	ref, err := g.sw.NewKey(t.Context())
	must(t, err)
	wrapped, err := g.sw.Wrap(t.Context(), ref, []byte("secret"))
	must(t, err)

	must(t, g.m.Close())
	g.start()
	g.use(c)
	must(t, g.sw.Ready(t.Context()))
	if plain, err := g.sw.Unwrap(t.Context(), ref, wrapped); err != nil || string(plain) != "secret" {
		t.Errorf("unwrapping after a restart: %v", err)
	}
	g.shows(name, StateAuthenticated, "", prompt)
	must(t, g.m.Logout(""))
	g.shows(name, "login", CodeNoPassword, prompt)
	missing := *c
	missing.Module = &config.PKCS11Module{Path: p11test.Module, Token: "another"}
	g.use(&missing)
	g.shows(tokenName(missing.Module), "login", CodeNoPassword, prompt)
	g.hidden()
}
