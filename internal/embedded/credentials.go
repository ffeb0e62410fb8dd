package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"moongate/internal/durable"
)

// credentialNames are what the first start makes up, in the order of the file.
var credentialNames = []string{"hsm-admin", "hsm-so", "partition-co", "partition-cu", "gateway-admin"}

// Credentials are the generated passwords by name.
type Credentials map[string]string

// loadOrMakeCredentials reads the credentials file, lines of name=value in
// mode 0600, or makes it with fresh random passwords. It is written before
// anything is made that needs it, so that no crash leaves an HSM whose
// passwords nobody knows.
func loadOrMakeCredentials(path string) (Credentials, error) {
	c, err := ReadCredentials(path)
	if err == nil {
		return c, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c = Credentials{}
	var b strings.Builder
	for _, name := range credentialNames {
		c[name] = rand.Text() // 26 letters and digits, 130 bits
		fmt.Fprintf(&b, "%s=%s\n", name, c[name])
	}
	if err := durable.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing credentials: %w", err)
	}
	return c, nil
}

// ReadCredentials reads what loadOrMakeCredentials wrote.
func ReadCredentials(path string) (Credentials, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	c := Credentials{}
	for line := range strings.Lines(string(raw)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || value == "" {
			return nil, fmt.Errorf("reading credentials: %s has a line that is not name=value", path)
		}
		c[name] = value
	}
	for _, name := range credentialNames {
		if c[name] == "" {
			return nil, fmt.Errorf("reading credentials: %s has no line %s=; put it back, or remove the whole data directory to begin anew", path, name)
		}
	}
	return c, nil
}
