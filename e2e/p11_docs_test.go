package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"moongate/e2e/world"
)

// TestPKCS11Docs does what docs/pkcs11-modules.md says of SoftHSM2, as it is
// written there.
func TestPKCS11Docs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/pkcs11-modules.md")
	must(t, err)
	script := between(string(page), "```sh\n", "```")
	if script == "" {
		t.Fatal("the page has no commands")
	}
	bin := t.TempDir()
	for _, name := range []string{"moongate-p11", "cmu"} {
		path, err := world.Program(t.Context(), name)
		must(t, err)
		must(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	cmd.Dir = world.T(t).Dir()
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"CKM_AES_GCM                  yes", "handle=2\tlabel=forward-trust", "Self-signed certificate stored", "Example Forward Trust"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}
