package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"moongate/internal/durable"
)

// Names of what is sealed under the device key.
const (
	HSMClientKey      = "hsm-client-key"
	PartitionPassword = "hsm-partition-password"
	SSHHostKey        = "ssh-host-key"
	WebKey            = "web-key"
)

// A file that the device key seals is two lines: what it is, and in base64 the
// device key's id (8 bytes) and the sealed contents.
const (
	deviceFirstLine = "moongate sealed file, version 1\n"
	maxDeviceFile   = 2 * MaxSecret
)

// ErrOtherDevice: the file was sealed by another device's key.
var ErrOtherDevice = errors.New("this file was sealed by another device; restore that one's device key, or make the file anew")

// Device seals what a start needs before the HSM answers. Its methods may be
// called at the same time.
type Device struct {
	id string

	mu     sync.RWMutex
	key    key  // guarded by mu
	closed bool // guarded by mu; then key is wiped
}

// OpenDevice reads the device key of the vault in a directory, beside the
// process that holds the vault. The error matches fs.ErrNotExist where there is
// none.
func OpenDevice(dir string) (*Device, error) {
	path := filepath.Join(dir, deviceFile)
	keys, err := readKeyFile(path, deviceKind)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		wipe(keys)
		return nil, fmt.Errorf("device key %s: it has %d keys, expected one; restore it from a backup", path, len(keys))
	}
	defer wipe(keys)
	return &Device{id: keys[0].id, key: keys[0].key}, nil
}

// close wipes the key: what is called afterwards fails with ErrClosed.
func (d *Device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.key[:])
	d.closed = true
}

// withKey runs f with the key, which stays while it does.
func (d *Device) withKey(f func(*key) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return ErrClosed
	}
	return f(&d.key)
}

func (d *Device) context(name string) []byte { return contextOf("moongate device", name, d.id) }

// Seal seals contents of at most MaxSecret bytes under a name, by which alone
// they open again: a password that is put where a key belongs does not.
func (d *Device) Seal(name string, contents []byte) ([]byte, error) {
	if err := checkKind(name); err != nil {
		return nil, err
	}
	if len(contents) > MaxSecret {
		return nil, fmt.Errorf("%d bytes are too long to be sealed; at most %d are", len(contents), MaxSecret)
	}
	padded := pad(contents)
	defer clear(padded)
	body, err := hex.DecodeString(d.id)
	if err != nil {
		panic("vault: " + err.Error()) // ids are checked when they are read
	}
	err = d.withKey(func(k *key) error {
		body = seal(body, k, d.context(name), newSecretID(), padded)
		return nil
	})
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.AppendEncode([]byte(deviceFirstLine), body)
	return append(text, '\n'), nil
}

// Open opens what Seal sealed under this name: ErrNotSealed, ErrOtherDevice,
// ErrChanged. The caller clears what it returns when it is done with it.
func (d *Device) Open(name string, sealed []byte) ([]byte, error) {
	if err := checkKind(name); err != nil {
		return nil, err
	}
	keyID, body, err := parseDeviceFile(sealed)
	if err != nil {
		return nil, err
	}
	if keyID != d.id {
		return nil, ErrOtherDevice
	}
	var padded []byte
	err = d.withKey(func(k *key) error {
		if padded, err = unseal(k, d.context(name), body); err != nil {
			return ErrChanged
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	contents, err := unpad(padded)
	if err != nil {
		return nil, ErrChanged
	}
	return contents, nil
}

// parseDeviceFile reads a sealed file's text; there is one encoding.
func parseDeviceFile(text []byte) (keyID string, body []byte, err error) {
	rest, ok := bytes.CutPrefix(text, []byte(deviceFirstLine))
	digits, isLine := bytes.CutSuffix(rest, []byte("\n"))
	if !ok || !isLine || len(text) > maxDeviceFile || bytes.ContainsAny(digits, "\r\n") {
		return "", nil, ErrNotSealed
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, digits)
	if err != nil || len(raw) < keyIDSize+overhead+padding {
		return "", nil, ErrNotSealed
	}
	return hex.EncodeToString(raw[:keyIDSize]), raw[keyIDSize:], nil
}

// WriteFile seals contents into a file, mode 0600, which is replaced as a
// whole.
func (d *Device) WriteFile(path, name string, contents []byte) error {
	text, err := d.Seal(name, contents)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing a sealed file: %w", err)
	}
	return nil
}

// ReadFile opens the contents of a file that WriteFile wrote; errors as of Open,
// with the file's name. It matches fs.ErrNotExist where there is none.
func (d *Device) ReadFile(path, name string) ([]byte, error) {
	text, err := readOwn(path, maxDeviceFile)
	if err != nil {
		return nil, err
	}
	contents, err := d.Open(name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return contents, nil
}

// Protect seals a file in place that may be in the clear still: written by an
// earlier version, or put there by an administrator. It does nothing to one that
// this device sealed under this name.
func (d *Device) Protect(path, name string) error {
	text, err := readOwn(path, maxDeviceFile)
	if err != nil {
		return err
	}
	defer clear(text)
	contents, err := d.Open(name, text)
	clear(contents)
	if !errors.Is(err, ErrNotSealed) {
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return err
	}
	if bytes.HasPrefix(text, []byte("moongate sealed file")) {
		return fmt.Errorf("%s is a sealed file that is damaged, or of a version that is not known; restore it from a backup", path)
	}
	sealed, err := d.Seal(name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replaceOwn(path, sealed)
}

// Sealed reports whether a file has the form of a sealed one.
func Sealed(path string) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("looking at a sealed file: %w", err)
	}
	_, _, err = parseDeviceFile(text)
	return err == nil, nil
}
