package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"moongate/internal/durable"
	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
)

// FirstAdmin is the administrator that the first start makes.
const FirstAdmin = "admin"

// firstAdministrator makes the administrator of a gateway that has none. The
// password is that of the hash that somebody put there, or else a random one,
// which is left in a file that say names.
func firstAdministrator(ctx context.Context, m *mgmt.Manager, files Files, say func(string)) error {
	if !m.NeedsAdministrator() {
		return removeIfThere(files.FirstHash()) // of a first start that was interrupted
	}
	hash, err := firstHash(files)
	if err != nil {
		return fmt.Errorf("making the first administrator: %w", err)
	}
	if _, err := m.FirstAdministrator(ctx, FirstAdmin, hash); err != nil {
		return fmt.Errorf("making the first administrator: %w", err)
	}
	if err := removeIfThere(files.FirstHash()); err != nil {
		return err
	}
	if _, err := os.Stat(files.FirstPassword()); err == nil {
		say(fmt.Sprintf("administrator %s made; the password is in %s: log in, change it, remove the file", FirstAdmin, files.FirstPassword()))
	}
	return nil
}

// firstHash is the hash of the first administrator's password. A random
// password is written before it is used, so that no crash leaves one that
// nobody knows.
func firstHash(files Files) (string, error) {
	raw, err := os.ReadFile(files.FirstHash())
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	password := []byte(rand.Text())
	defer clear(password)
	if err := durable.WriteFile(files.FirstPassword(), append(password, '\n'), 0o600); err != nil {
		return "", err
	}
	return admin.Hash(password)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
