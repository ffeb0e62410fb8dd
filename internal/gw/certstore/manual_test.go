package certstore

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"moongate/internal/keyfile"
)

// TestManual holds the manual's figures and words against the code.
func TestManual(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../../docs/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	for _, state := range []State{Locked, Software, Missing, Unavailable, Unreadable, NoKey} {
		if !strings.Contains(text, fmt.Sprintf("| %s |", state)) {
			t.Errorf("the manual does not tell of the state %s", state)
		}
	}
	for _, words := range []string{
		fmt.Sprintf("| a file | %d MiB, %d certificates |", keyfile.MaxSize>>20, keyfile.MaxCertificates),
		fmt.Sprintf("| a chain in the configuration | %d certificates |", maxChain),
		fmt.Sprintf("| %d each, %d in all; scrypt of %d MiB |", keyfile.MaxRounds, keyfile.MaxRoundsFile, keyfile.MaxScrypt>>20),
		fmt.Sprintf("| RSA keys | %d to %d bits |", keyfile.MinRSA, keyfile.MaxRSA),
		fmt.Sprintf("at least %d characters", MinPassphrase),
		fmt.Sprintf("PBKDF2 with %d rounds", keyfile.ExportRounds),
		fmt.Sprintf("within %d, %d and %d days", WithinMonth, WithinWeek, WithinDay),
	} {
		if !strings.Contains(text, words) {
			t.Errorf("the manual does not say %q", words)
		}
	}
}
