// Package wycheprooftest runs Project Wycheproof's test vectors
// (github.com/c2sp/wycheproof) against anything that acts like an HSM's
// cryptography: the package mech itself, or an HSM behind its client protocol.
// It is for tests; who runs it hands over the vectors as an fs.FS:
//
//	totals := wycheprooftest.Run(t, wycheproof.TestVectors, device)
//
// A vector is run, or left out with a reason. One that is run is right when
// the device does what the vector says, or refuses what our policy refuses (an
// exponent of 3, a MAC cut short): then the refusal is what is demanded, and
// counted under its reason.
package wycheprooftest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"testing"

	"moongate/internal/hsm/object"
)

// Key is a device's name for a key.
type Key any

// Device does what a partition does. It serves many goroutines.
//
// Import takes a key in the clear, however the device arranges that: a PKCS#8
// private key, the bytes of a secret key, a SubjectPublicKeyInfo. The template
// holds class, key type and what the key may do. Errors are refusals.
type Device interface {
	ImportPrivate(t object.Template, pkcs8 []byte) (Key, error)
	ImportSecret(t object.Template, value []byte) (Key, error)
	ImportPublic(t object.Template, info []byte) (Key, error)
	Sign(k Key, m object.Mechanism, data []byte) ([]byte, error)
	Verify(k Key, m object.Mechanism, data, signature []byte) error
	Encrypt(k Key, m object.Mechanism, plaintext []byte) ([]byte, error)
	Decrypt(k Key, m object.Mechanism, ciphertext []byte) ([]byte, error)
	Wrap(wrapping, target Key, m object.Mechanism) ([]byte, error)
	Unwrap(unwrapping Key, m object.Mechanism, wrapped []byte, t object.Template) (Key, error)
	Derive(base Key, m object.Mechanism, t object.Template) (Key, error)
	Destroy(k Key) error
}

// Totals counts vectors.
type Totals struct {
	Files   int
	Right   int            // the device did what the vector says
	Refused map[string]int // it refused what our policy refuses, by reason
	LeftOut map[string]int // not run, by reason
}

// Run runs every file of the vectors that fits our mechanisms, each as a
// parallel subtest, and waits for them. A file that yields no vector fails, and
// so does one of which nobody has said whether it fits.
func Run(t *testing.T, vectors fs.FS, device Device) Totals {
	t.Helper()
	return RunSample(t, vectors, device, 1)
}

// RunSample is Run with one vector of each so many alone, for a test that is
// slowed down. The others are counted as left out.
func RunSample(t *testing.T, vectors fs.FS, device Device, every int) Totals {
	t.Helper()
	names, err := fs.Glob(vectors, "*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no test vectors: %d files, %v", len(names), err)
	}
	totals := Totals{Refused: map[string]int{}, LeftOut: map[string]int{}}
	var mu sync.Mutex // guards totals
	t.Run("files", func(t *testing.T) {
		for _, name := range names {
			fate, known := fateOf(name)
			switch {
			case !known:
				t.Errorf("%s is neither run nor left out; decide which", name)
			case fate == otherAlgorithm:
			case fate != run:
				n := count(t, vectors, name)
				mu.Lock()
				totals.LeftOut[string(fate)] += n
				mu.Unlock()
			default:
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					counts := runFile(t, load(t, vectors, name), device, every)
					mu.Lock()
					defer mu.Unlock()
					totals.add(counts)
				})
			}
		}
	})
	return totals
}

func (t *Totals) add(more Totals) {
	t.Files += more.Files
	t.Right += more.Right
	for reason, n := range more.Refused {
		t.Refused[reason] += n
	}
	for reason, n := range more.LeftOut {
		t.LeftOut[reason] += n
	}
}

// String is a table of the counts, one reason to a line.
func (t Totals) String() string {
	var out bytes.Buffer
	refused, leftOut := 0, 0
	list := func(what string, counts map[string]int, sum *int) {
		for _, reason := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&out, "\n  %6d %s: %s", counts[reason], what, reason)
			*sum += counts[reason]
		}
	}
	list("refused by policy", t.Refused, &refused)
	list("left out", t.LeftOut, &leftOut)
	return fmt.Sprintf("%d files: %d vectors right, %d refused by policy, %d left out%s", t.Files, t.Right, refused, leftOut, &out)
}

// judgement is what a vector's operation says of it before it is run: left
// out, to be refused for a reason of ours, or (zero) to be run as it says.
type judgement struct{ leftOut, refused string }

// operation runs vectors of one type of group.
type operation struct {
	// judge may be nil.
	judge func(f *file, g *group, v *vector) judgement
	// try does what the vector describes. It returns what is wrong with a
	// result that the device gave, or the device's refusal.
	try func(s *bench, f *file, g *group, v *vector) (wrong string, err error)
}

func runFile(t *testing.T, f *file, device Device, every int) Totals {
	counts := Totals{Files: 1, Refused: map[string]int{}, LeftOut: map[string]int{}}
	fits := 0
	b := &bench{device: device, keys: map[string]imported{}, made: map[string]madeKey{}}
	defer b.destroy(t)
	for i := range f.TestGroups {
		g := &f.TestGroups[i]
		op, known := operations[g.Type]
		if !known {
			t.Fatalf("group %d is of type %q, which nobody runs", i, g.Type)
		}
		for j := range g.Tests {
			v := &g.Tests[j]
			var says judgement
			if op.judge != nil {
				says = op.judge(f, g, v)
			}
			if says.leftOut != "" {
				counts.LeftOut[says.leftOut]++
				continue
			}
			if fits++; (fits-1)%every != 0 {
				counts.LeftOut["a sample of the vectors is run"]++
				continue
			}
			wrong, err := op.try(b, f, g, v)
			verdict := v.verdict(says, wrong, err)
			switch {
			case verdict != "":
				t.Errorf("vector %d (%s, %q, %v): %s", v.ID, v.Result, v.Comment, v.Flags, verdict)
			case says.refused != "":
				counts.Refused[says.refused]++
			default:
				counts.Right++
			}
		}
	}
	if fits == 0 {
		t.Errorf("none of %d vectors was run", len(f.vectors()))
	}
	return counts
}

// verdict says what is wrong with what became of the vector; nothing is empty.
func (v *vector) verdict(says judgement, wrong string, err error) string {
	refused := err != nil
	switch {
	case says.refused != "" && !refused:
		return "taken, and should be refused: " + says.refused
	case says.refused != "":
		return ""
	case v.Result == "invalid" && !refused && wrong == "":
		return "taken"
	case v.Result == "valid" && refused:
		return fmt.Sprintf("refused: %v", err)
	case v.Result != "invalid" && wrong != "":
		return wrong
	}
	return ""
}

// bench is the device with the keys of one file, each imported once.
type bench struct {
	device Device
	keys   map[string]imported
	made   map[string]madeKey
}

type imported struct {
	key Key
	err error
}

// importOnce imports a key, or returns it if it is there.
func (b *bench) importOnce(t object.Template, value []byte) (Key, error) {
	name := string(t.Append(nil)) + string(value)
	if had, ok := b.keys[name]; ok {
		return had.key, had.err
	}
	importer := b.device.ImportSecret
	switch t.Class() {
	case object.ClassPrivateKey:
		importer = b.device.ImportPrivate
	case object.ClassPublicKey:
		importer = b.device.ImportPublic
	}
	key, err := importer(t, value)
	b.keys[name] = imported{key, err}
	return key, err
}

func (b *bench) destroy(t *testing.T) {
	for _, had := range b.keys {
		if had.err == nil {
			if err := b.device.Destroy(had.key); err != nil {
				t.Errorf("destroying a key: %v", err)
			}
		}
	}
}

// template describes a key that may do what uses say.
func template(class object.Class, keyType object.KeyType, uses ...object.AttributeType) object.Template {
	t := object.New(object.Number(object.AttrClass, uint64(class)), object.Number(object.AttrKeyType, uint64(keyType)))
	for _, use := range uses {
		t = t.With(object.Bool(use, true))
	}
	return t
}

func differs(what string, got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("%s is %x, want %x", what, got, want)
}
