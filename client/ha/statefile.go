package ha

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"moongate/internal/durable"
	"moongate/internal/hsm/object"
)

// stateFile is the file of Config.StateFile: the group's record as it was last
// seen, in JSON; docs/ha.md says what it is for. It holds no secret.
type stateFile struct {
	Format  int           `json:"format"` // 1
	ID      object.ID     `json:"id"`
	Label   string        `json:"label"`
	Serial  string        `json:"serial"`
	Epoch   uint64        `json:"epoch"`
	Members []stateMember `json:"members"`
}

type stateMember struct {
	Name    string `json:"name"`
	Serial  string `json:"serial"`
	HSM     string `json:"hsm"` // 64 hexadecimal digits
	Address string `json:"address"`
}

// maxState bounds what is read of a state file, in bytes.
const maxState = 64 << 10

// readState reads the record that was remembered; Epoch 0 where there is none,
// or one of a group with another label.
func readState(path, label string) (object.Group, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return object.Group{}, nil
	} else if err != nil {
		return object.Group{}, fmt.Errorf("reading the HA state: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return object.Group{}, fmt.Errorf("reading the HA state: %w", err)
	}
	record, err := decodeState(raw)
	if err != nil {
		return object.Group{}, fmt.Errorf("reading the HA state: %s: %w; it is a cache and may be deleted", path, err)
	}
	if record.Label != label {
		return object.Group{}, nil
	}
	return record, nil
}

// decodeState reads what encodeState wrote, and nothing else.
func decodeState(raw []byte) (object.Group, error) {
	if len(raw) > maxState {
		return object.Group{}, fmt.Errorf("it has more than %d bytes", maxState)
	}
	var s stateFile
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return object.Group{}, err
	}
	if s.Format != 1 {
		return object.Group{}, fmt.Errorf("its format is %d, expected 1", s.Format)
	}
	g := object.Group{ID: s.ID, Label: s.Label, Serial: s.Serial, Epoch: s.Epoch}
	for _, m := range s.Members {
		hsm, err := hex.DecodeString(m.HSM)
		if err != nil || len(hsm) != len(object.HSMID{}) {
			return object.Group{}, fmt.Errorf("member %q: its hsm should be 64 hexadecimal digits", m.Name)
		}
		g.Members = append(g.Members, object.Member{Name: m.Name, Serial: m.Serial, HSM: object.HSMID(hsm), Address: m.Address})
	}
	if err := g.Check(); err != nil {
		return object.Group{}, err
	}
	if !bytes.Equal(encodeState(g), raw) {
		return object.Group{}, errors.New("it was written by something else")
	}
	return g, nil
}

func encodeState(g object.Group) []byte {
	s := stateFile{Format: 1, ID: g.ID, Label: g.Label, Serial: g.Serial, Epoch: g.Epoch}
	for _, m := range g.Members {
		s.Members = append(s.Members, stateMember{Name: m.Name, Serial: m.Serial, HSM: m.HSM.String(), Address: m.Address})
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // strings and numbers always have an encoding
	}
	return append(raw, '\n')
}

// writeState replaces the file, unless it remembers a record that counts more.
func writeState(path string, g object.Group) error {
	if old, err := readState(path, g.Label); err == nil && old.ID == g.ID && old.Epoch > 0 && !g.Supersedes(old) {
		return nil
	}
	if err := durable.WriteFile(path, encodeState(g), 0o644); err != nil {
		return fmt.Errorf("remembering the group's record: %w", err)
	}
	return nil
}

func removeState(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the group's record: %w", err)
	}
	return nil
}
