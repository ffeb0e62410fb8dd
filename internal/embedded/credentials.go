package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
// passwords nobody knows: where there is an HSM without it, somebody took it
// away, and fresh passwords would only lock the HSM's roles.
func loadOrMakeCredentials(l layout) (Credentials, error) {
	path := l.credentials()
	c, err := ReadCredentials(path)
	if err == nil {
		return c, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if exists(l.hsmRootKey()) {
		return nil, fmt.Errorf("%s is missing, and it holds the passwords of the HSM in %s: put it back, or remove the whole data directory to begin anew", path, l.hsm())
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

// ReadCredentials reads the passwords that the first start made up. The error
// matches fs.ErrNotExist where there are none yet, and quotes no line.
func ReadCredentials(path string) (Credentials, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("reading credentials: %s has mode %v: others can reach it; if it is still secret, run `chmod 600 %s`", path, mode, path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	c := Credentials{}
	number := 0
	for line := range strings.Lines(string(raw)) {
		number++
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok || value == "" || c[name] != "" || !slices.Contains(credentialNames, name) {
			return nil, fmt.Errorf("reading credentials: line %d of %s is not name=value, of another name, or of one that was there before", number, path)
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
