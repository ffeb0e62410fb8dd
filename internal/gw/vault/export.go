package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"moongate/internal/passphrase"
)

// An export is three lines:
//
//	moongate vault export, version 1
//	kdf DERIVATION
//	vault BASE64
//
// The third is the files of the vault, sealed under what the derivation makes of
// a passphrase, with the first two lines as context. Version 2 is one without a
// master key, since that is on the HSM.
const (
	exportVersion1 = "moongate vault export, version 1\n"
	exportVersion2 = "moongate vault export, version 2\n"
	kdfField       = "kdf "
	vaultField     = "vault "

	maxExport        = 64 << 10
	minPassphrase    = 12
	maxPassphrase    = 1024
	exportPlainLimit = 2*(64+maxKeysOfFile*keyLineSize) + maxKeyring
)

// ErrPassphrase: the passphrase of an export is wrong, or the export was
// changed; nobody can tell which.
var ErrPassphrase = errors.New("the passphrase is wrong, or the export was changed")

// exported is what an export seals: the texts of the files.
type exported struct {
	Master  []byte `json:"master_key,omitempty"` // none where it is on the HSM
	Keyring []byte `json:"keyring"`
	Device  []byte `json:"device_key"`
}

func (e *exported) wipe() {
	clear(e.Master)
	clear(e.Device)
}

// Export writes all of the vault's keys into a text that a passphrase of 12 to
// 1024 bytes opens: for a backup of the gateway. Whoever has both reads every
// secret of every version of its configuration, but for a master key on the HSM:
// of that the export holds what the wrapping keys made of it, so that a vault
// made of it needs one of those, or the master key as it was entered (Recover).
// Such a vault is exported while it is locked, too.
func (v *Vault) Export(pass []byte) ([]byte, error) {
	if len(pass) < minPassphrase || len(pass) > maxPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes; expected %d to %d", len(pass), minPassphrase, maxPassphrase)
	}
	v.change.Lock()
	defer v.change.Unlock()
	if err := v.withRing(func(*ring) error { return nil }); err != nil && !errors.Is(err, ErrLocked) {
		return nil, err
	}
	o, err := readPair(v.dir)
	if err != nil {
		return nil, err
	}
	defer o.wipe()
	if o.locked != nil {
		return v.export(exportVersion2, exported{Keyring: o.locked.text()}, pass)
	}
	for i := range o.masters {
		if o.masters[i].id != o.ring.header.Master.ID {
			continue
		}
		ringText, err := o.ring.encode(&o.masters[i].key)
		if err != nil {
			return nil, err
		}
		return v.export(exportVersion1, exported{Master: encodeKeyFile(masterKind, o.masters[i:i+1]), Keyring: ringText}, pass)
	}
	return nil, errMaster
}

func (v *Vault) export(firstLine string, e exported, pass []byte) ([]byte, error) {
	defer e.wipe()
	err := v.device.withKey(func(k *key) error {
		e.Device = encodeKeyFile(deviceKind, []namedKey{{v.device.id, *k}})
		return nil
	})
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(&e)
	if err != nil {
		return nil, fmt.Errorf("encoding the export: %w", err)
	}
	defer clear(plain)
	kdf := passphrase.New(v.costs.export)
	k := key(kdf.Derive(pass))
	defer clear(k[:])
	text := []byte(firstLine + kdfField + kdf.String() + "\n")
	body := seal(nil, &k, contextOf(string(text)), newSecretID(), plain)
	text = base64.StdEncoding.AppendEncode(append(text, vaultField...), body)
	return append(text, '\n'), nil
}

// Import makes a vault in a directory from an export. All of it is checked
// before anything is made. A directory that is there and not empty is an error
// that matches fs.ErrExist.
func Import(dir string, text, pass []byte) error {
	e, err := openExport(text, pass)
	if err != nil {
		return fmt.Errorf("importing a vault: %w", err)
	}
	defer e.wipe()
	if err := e.check(); err != nil {
		return fmt.Errorf("importing a vault: %w", err)
	}
	files := map[string][]byte{keyringFile: e.Keyring, deviceFile: e.Device}
	if e.Master != nil {
		files[masterFile] = e.Master
	}
	if err := publish(dir, files); err != nil {
		return fmt.Errorf("importing a vault into %s: %w", filepath.Clean(dir), err)
	}
	return nil
}

// parseExport reads an export's text without opening it; there is one encoding.
// head is its first two lines.
func parseExport(text []byte) (kdf passphrase.KDF, head, body []byte, err error) {
	bad := errors.New("this is not the three lines of a vault's export")
	if len(text) > maxExport {
		return kdf, nil, nil, bad
	}
	rest, known := bytes.CutPrefix(text, []byte(exportVersion1))
	if !known {
		rest, known = bytes.CutPrefix(text, []byte(exportVersion2))
	}
	if !known && bytes.HasPrefix(text, []byte("moongate vault export, version ")) {
		return kdf, nil, nil, errors.New("the export is of a version that is not known; run the version that wrote it, or a newer one")
	}
	rest, isKDF := bytes.CutPrefix(rest, []byte(kdfField))
	kdfText, rest, isLine := bytes.Cut(rest, []byte("\n"))
	rest, isVault := bytes.CutPrefix(rest, []byte(vaultField))
	digits, isLast := bytes.CutSuffix(rest, []byte("\n"))
	if !known || !isKDF || !isLine || !isVault || !isLast || bytes.ContainsAny(digits, "\r\n") {
		return kdf, nil, nil, bad
	}
	if kdf, err = passphrase.Parse(string(kdfText)); err != nil {
		return kdf, nil, nil, err
	}
	body, err = base64.StdEncoding.Strict().AppendDecode(nil, digits)
	if err != nil || len(body) < overhead || len(body) > overhead+2*exportPlainLimit {
		return kdf, nil, nil, bad
	}
	return kdf, text[:len(exportVersion1)+len(kdfField)+len(kdfText)+1], body, nil
}

func openExport(text, pass []byte) (*exported, error) {
	kdf, head, body, err := parseExport(text)
	if err != nil {
		return nil, err
	}
	k := key(kdf.Derive(pass))
	defer clear(k[:])
	plain, err := unseal(&k, contextOf(string(head)), body)
	if err != nil {
		return nil, ErrPassphrase
	}
	defer clear(plain)
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	var e exported
	if err := dec.Decode(&e); err != nil {
		return nil, errors.New("the export was made by a program that is not this one")
	}
	return &e, nil
}

// check opens the exported vault, as the one will be opened that is made of it;
// one whose master key is on the HSM is locked then.
func (e *exported) check() error {
	device, err := decodeKeyFile(deviceKind, e.Device)
	if err != nil || len(device) != 1 {
		return errors.New("device key: it is not one key")
	}
	wipe(device)
	h, _, _, err := parseRing(e.Keyring)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if h.onHSM() {
		if e.Master != nil {
			return errors.New("master key: there is one, and the keyring says that it is on the HSM")
		}
		return nil
	}
	masters, err := decodeKeyFile(masterKind, e.Master)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	defer wipe(masters)
	r, err := openRing(e.Keyring, masters)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	r.wipe()
	return nil
}
