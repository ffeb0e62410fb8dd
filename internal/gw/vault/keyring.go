package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"moongate/internal/passphrase"
)

// A keyring is three lines, mode 0600:
//
//	moongate keyring, version 1
//	header JSON
//	keys BASE64
//
// The third line is the data keys, one after the other in the header's order,
// sealed under the master key with the first two lines as context: so nothing
// of the header can be changed without it. Version 2 is one whose header says
// what version 1 did not know: wrapping keys, and that the key renews itself.
const (
	ringVersion1 = "moongate keyring, version 1\n"
	ringVersion2 = "moongate keyring, version 2\n"
	headerField  = "header "
	keysField    = "keys "

	// maxDataKeys bounds a keyring; at 80 bytes a key it has some 6 KiB, and
	// its wrapping keys at most as much.
	maxDataKeys = 64
	maxKeyring  = 16 << 10
)

// header is what a keyring says in the clear.
type header struct {
	Master master    `json:"master"`
	Keys   []dataKey `json:"keys"` // the last one seals
	// Wrapping are the wrapping keys that were made for this vault, oldest
	// first. The last one is in use, or will be.
	Wrapping []wrappingKey `json:"wrapping_keys,omitempty"`
}

// master is what is known of the master key that seals a keyring.
type master struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// KDF is how the key was derived from what an administrator gave; ""
	// where it was made at random.
	KDF      string    `json:"kdf,omitempty"`
	ExpireAt time.Time `json:"expire_at,omitzero"` // zero: never
	RemindAt time.Time `json:"remind_at,omitzero"` // zero: not
	// AutoRenew is by how many hours the key's life is made longer when it
	// ends; 0: it is not.
	AutoRenew int `json:"auto_renew_hours,omitempty"`
}

type dataKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// ring is an open keyring. It is not changed once it is made.
type ring struct {
	header header
	keys   []key // in the header's order
	// master is the master key where it is on the HSM, which need not be
	// asked again then; nil where it is in its file.
	master *key
}

// errMaster: no master key that is there opens the keyring.
var errMaster = errors.New("the master key in " + masterFile + " is not the one that it is sealed under, or the keyring was changed; put back the two files that belong together, or recover the master key from what it was given as")

func (r *ring) active() (string, *key) {
	last := len(r.keys) - 1
	return r.header.Keys[last].ID, &r.keys[last]
}

func (r *ring) find(id string) *key {
	for i := range r.header.Keys {
		if r.header.Keys[i].ID == id {
			return &r.keys[i]
		}
	}
	return nil
}

func (r *ring) wipe() {
	for i := range r.keys {
		clear(r.keys[i][:])
	}
	if r.master != nil {
		clear(r.master[:])
	}
}

// clone copies a ring, to be changed before it is used.
func (r *ring) clone() *ring {
	c := &ring{header: r.header, keys: slices.Clone(r.keys)}
	c.header.Keys = slices.Clone(r.header.Keys)
	c.header.Wrapping = slices.Clone(r.header.Wrapping)
	c.keep(r.master)
	return c
}

// keep has the ring keep a copy of its master key, where that is on the HSM.
func (r *ring) keep(m *key) {
	r.master = nil
	if m != nil && r.header.onHSM() {
		kept := *m
		r.master = &kept
	}
}

func (r *ring) encode(m *key) ([]byte, error) {
	head, err := r.header.encode()
	if err != nil {
		return nil, err
	}
	plain := make([]byte, 0, len(r.keys)*len(key{}))
	for i := range r.keys {
		plain = append(plain, r.keys[i][:]...)
	}
	defer clear(plain)
	text := append(bytes.Clone(head), keysField...)
	text = base64.StdEncoding.AppendEncode(text, seal(nil, m, contextOf("moongate keyring", string(head)), newSecretID(), plain))
	return append(text, '\n'), nil
}

func (h *header) firstLine() string {
	if len(h.Wrapping) > 0 || h.Master.AutoRenew != 0 {
		return ringVersion2
	}
	return ringVersion1
}

func (h *header) encode() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding the keyring: %w", err)
	}
	return slices.Concat([]byte(h.firstLine()+headerField), b, []byte("\n")), nil
}

// parseRing reads a keyring's text without opening it; there is one encoding.
// head is its first two lines.
func parseRing(text []byte) (h header, head, sealed []byte, err error) {
	bad := errors.New("it is not the three lines of a keyring, or was edited; restore it from a backup")
	if len(text) > maxKeyring {
		return h, nil, nil, bad
	}
	rest, known := bytes.CutPrefix(text, []byte(ringVersion1))
	if !known {
		rest, known = bytes.CutPrefix(text, []byte(ringVersion2))
	}
	if !known && bytes.HasPrefix(text, []byte("moongate keyring, version ")) {
		return h, nil, nil, errors.New("it is of a version that is not known; run the version that wrote it, or a newer one")
	}
	rest, isHeader := bytes.CutPrefix(rest, []byte(headerField))
	headText, rest, _ := bytes.Cut(rest, []byte("\n"))
	rest, isKeys := bytes.CutPrefix(rest, []byte(keysField))
	digits, isLine := bytes.CutSuffix(rest, []byte("\n"))
	if !known || !isHeader || !isKeys || !isLine {
		return h, nil, nil, bad
	}
	dec := json.NewDecoder(bytes.NewReader(headText))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return h, nil, nil, bad
	}
	if err := h.check(); err != nil {
		return h, nil, nil, err
	}
	head, err = h.encode()
	if err != nil || !bytes.HasPrefix(text, head) {
		return h, nil, nil, bad
	}
	sealed, err = base64.StdEncoding.Strict().AppendDecode(nil, digits)
	if err != nil || bytes.ContainsAny(digits, "\r\n") || len(sealed) != overhead+len(h.Keys)*len(key{}) {
		return h, nil, nil, bad
	}
	return h, head, sealed, nil
}

func (h *header) check() error {
	if len(h.Keys) == 0 || len(h.Keys) > maxDataKeys {
		return fmt.Errorf("it has %d data keys, expected 1 to %d; restore it from a backup", len(h.Keys), maxDataKeys)
	}
	if !isID(h.Master.ID) {
		return errors.New("the master key's id is not 16 hexadecimal digits; restore it from a backup")
	}
	if h.Master.KDF != "" {
		if _, err := passphrase.Parse(h.Master.KDF); err != nil {
			return fmt.Errorf("the master key's derivation: %w; restore it from a backup", err)
		}
	}
	for i, k := range h.Keys {
		if !isID(k.ID) || slices.ContainsFunc(h.Keys[:i], func(o dataKey) bool { return o.ID == k.ID }) {
			return fmt.Errorf("data key %d has an id that is not 16 hexadecimal digits, or is there twice; restore it from a backup", i+1)
		}
	}
	if n := h.Master.AutoRenew; n < 0 || n > int(MaxLifetime.Hours()) {
		return fmt.Errorf("the master key renews itself for %d hours, expected at most %.0f; restore it from a backup", n, MaxLifetime.Hours())
	}
	return checkWrapping(h.Wrapping)
}

func isID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == keyIDSize && hex.EncodeToString(raw) == s
}

// openRing reads a keyring and opens it by the one of the master keys that it
// names.
func openRing(text []byte, masters []namedKey) (*ring, error) {
	h, head, sealed, err := parseRing(text)
	if err != nil {
		return nil, err
	}
	for i := range masters {
		if masters[i].id == h.Master.ID {
			return openRingBy(h, head, sealed, &masters[i].key)
		}
	}
	return nil, errMaster
}

func openRingBy(h header, head, sealed []byte, m *key) (*ring, error) {
	plain, err := unseal(m, contextOf("moongate keyring", string(head)), sealed)
	if err != nil {
		return nil, errMaster
	}
	defer clear(plain)
	r := &ring{header: h, keys: make([]key, len(h.Keys))}
	for i := range r.keys {
		copy(r.keys[i][:], plain[i*len(key{}):])
	}
	r.keep(m)
	return r, nil
}
