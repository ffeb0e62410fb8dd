package wycheprooftest

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"testing"
)

// file is a file of vectors: the fields that we use, of every schema.
type file struct {
	Algorithm  string
	TestGroups []group
}

type group struct {
	Type, Sha, MgfSha, Curve string
	// In bits; SLen, the PSS salt's length, in bytes.
	KeySize, IvSize, TagSize, SLen int
	PublicKey                      publicKey
	PublicKeyDer, PrivateKeyPkcs8  hexBytes
	PrivateKey                     publicKey // its public numbers
	Tests                          []vector
}

type publicKey struct{ PublicExponent string }

// UnmarshalJSON takes a key that is written as something else than its
// numbers for none.
func (p *publicKey) UnmarshalJSON(raw []byte) error {
	var numbers struct{ PublicExponent string }
	if json.Unmarshal(raw, &numbers) == nil {
		p.PublicExponent = numbers.PublicExponent
	}
	return nil
}

type vector struct {
	ID      int `json:"tcId"`
	Comment string
	Flags   []string
	Result  string // "valid", "invalid" or "acceptable"

	Key, IV, AAD, Msg, CT, Tag, Sig, Label, Public, Private, Shared, IKM, Salt, Info, OKM hexBytes

	Size int // of HKDF's output in bytes
}

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	decoded, err := hex.DecodeString(text)
	*h = decoded
	return err
}

// count counts the vectors of a file whose fields may be others than ours.
func count(t *testing.T, vectors fs.FS, name string) int {
	t.Helper()
	raw, err := fs.ReadFile(vectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		TestGroups []struct{ Tests []json.RawMessage }
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	n := 0
	for _, g := range f.TestGroups {
		n += len(g.Tests)
	}
	return n
}

func load(t *testing.T, vectors fs.FS, name string) *file {
	t.Helper()
	raw, err := fs.ReadFile(vectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, v := range f.vectors() {
		if v.Result != "valid" && v.Result != "invalid" && v.Result != "acceptable" {
			t.Fatalf("%s: vector %d is %q", name, v.ID, v.Result)
		}
	}
	return &f
}

func (f *file) vectors() []vector {
	var all []vector
	for i := range f.TestGroups {
		all = append(all, f.TestGroups[i].Tests...)
	}
	return all
}
