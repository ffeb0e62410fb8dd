package replica

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// inFIPS marks the process that TestFIPSOnly starts.
const inFIPS = "MOONGATE_TEST_IN_FIPS"

// TestFIPSOnly: messages are made and opened where Go's module refuses what is
// not approved. The mode is set at a process's start.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	if os.Getenv(inFIPS) != "" {
		if !fips140.Enabled() {
			t.Fatal("Go's module is not in FIPS 140-3 mode")
		}
		messages(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^(TestFIPSOnly|TestMessagesAreBound)$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", inFIPS+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPSOnly") || !strings.Contains(string(out), "--- PASS: TestMessagesAreBound") {
		t.Errorf("in FIPS 140-3 mode: %v\n%s", err, out)
	}
}
