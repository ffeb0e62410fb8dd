package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"moongate/client"
	"moongate/e2e/world"
)

// haPassword is that of the Crypto Officers of a test's group, and haUser that
// of its Crypto Users.
const (
	haPassword = "co-password-of-all"
	haUser     = "cu-password-of-all"
)

// TestHAScripts types the commands of testdata/ha at three real HSMs, which have
// pinned each other and are of one domain (hsm1 to hsm3). Each has a partition p with the same
// passwords, and this host's client.pem is registered with it as host
// ($MOONGATE_CLIENT_CONF names no HSM yet).
//
//	hsm NAME WORDS...    a command of the administration of a, b or c
//	crash NAME           ends that HSM as a crash would
//	serve NAME           serves it again
//	answers, exits       as in TestScripts
func TestHAScripts(t *testing.T) {
	t.Parallel()
	hsms := map[string]*world.HSM{"a": world.T(t).HSM(), "b": world.T(t).HSM(), "c": world.T(t).HSM()}
	of := func(ts *testscript.TestScript, args []string) *world.HSM {
		if len(args) == 0 || hsms[args[0]] == nil {
			ts.Fatalf("name one of the HSMs a, b and c")
		}
		return hsms[args[0]]
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/ha",
		RequireUniqueNames: true,
		Setup:              func(e *testscript.Env) error { return setUpHA(t.Context(), t.TempDir(), hsms, e) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hsm":   func(ts *testscript.TestScript, neg bool, args []string) { administer(ts, of(ts, args), neg, args[1:]) },
			"crash": func(ts *testscript.TestScript, _ bool, args []string) { of(ts, args).Kill9() },
			"serve": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(of(ts, args).Restart(context.Background()))
			},
			"answers": answers,
			"exits":   exits,
		},
	})
}

func setUpHA(ctx context.Context, dir string, hsms map[string]*world.HSM, e *testscript.Env) error {
	if err := world.Introduce(ctx, dir, hsms["a"], hsms["b"], hsms["c"]); err != nil {
		return err
	}
	certificate, key, err := client.NewCertificate("host", "127.0.0.1")
	if err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(e.WorkDir, name) }
	for name, content := range map[string]string{
		"client.pem": string(certificate), "client-key.pem": string(key), "password": haPassword + "\n", "user": haUser + "\n",
		"client.toml": "partition = \"p\"\n\n[client]\nname = \"host\"\ncertificate = \"client.pem\"\nkey = \"client-key.pem\"\n",
	} {
		if err := os.WriteFile(in(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	for name, hsm := range hsms {
		_, err := hsm.Shell(ctx,
			"partition create -p p",
			"role init -p p -role co", haPassword, haPassword,
			"role init -p p -role cu", haPassword, haUser, haUser,
			"client register -c host -ip 127.0.0.1 -certificate "+in("client.pem"),
			"client assignPartition -c host -p p")
		if err != nil {
			return err
		}
		e.Setenv("HSM_"+strings.ToUpper(name), hsm.Addr)
		e.Setenv("PEM_"+strings.ToUpper(name), hsm.ServerCertificate())
	}
	e.Setenv("GORACE", "atexit_sleep_ms=0") // each command would take a second longer
	e.Setenv("HOME", in("home"))
	e.Setenv("MOONGATE_CLIENT_CONF", in("client.toml"))
	return nil
}
