package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"moongate/e2e/memsearch"
)

// hunt looks for secrets where they must not be: passwords as they are and in
// encodings of them, private keys by any 32 bytes in a row of their numbers.
type hunt struct {
	t       *testing.T
	texts   []needle
	secrets []memsearch.Secret
	keys    *memsearch.Searcher // of secrets; made when it is needed

	mu     sync.Mutex
	found  []string // guarded by mu
	looked int64    // bytes; guarded by mu
}

// needle is one form of a secret text.
type needle struct {
	name string
	form []byte
}

func newHunt(t *testing.T) *hunt { return &hunt{t: t} }

// text adds a password or the like, of 8 bytes or more: shorter ones would be
// found by chance.
func (h *hunt) text(name, secret string) {
	h.t.Helper()
	if len(secret) < 8 {
		h.t.Fatalf("%s has %d bytes", name, len(secret))
	}
	for form, value := range forms([]byte(secret)) {
		h.texts = append(h.texts, needle{name + " (" + form + ")", value})
	}
}

// forms are a secret's bytes in encodings. Within a longer text base64 has it in
// three ways, of which the first and last letters depend on what is around it.
func forms(secret []byte) map[string][]byte {
	list := map[string][]byte{
		"as it is": secret,
		"hex":      []byte(hex.EncodeToString(secret)),
		"HEX":      []byte(strings.ToUpper(hex.EncodeToString(secret))),
	}
	for before := range 3 {
		whole := append(make([]byte, before), secret...)
		letters := base64.StdEncoding.EncodeToString(whole[:len(whole)/3*3])
		list[fmt.Sprintf("base64, %d", before)] = []byte(letters[(before*8+5)/6:])
	}
	return list
}

// key adds a private key.
func (h *hunt) key(name string, key any) {
	h.t.Helper()
	secrets, err := memsearch.Secrets(name, key)
	must(h.t, err)
	h.secrets = append(h.secrets, secrets...)
	h.keys = nil
}

// bytes looks through something.
func (h *hunt) bytes(where string, content []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looked += int64(len(content))
	for _, n := range h.texts {
		if at := bytes.Index(content, n.form); at >= 0 {
			h.found = append(h.found, fmt.Sprintf("%s, at byte %d: %s", where, at, n.name))
		}
	}
	if h.keys == nil {
		h.keys = memsearch.New(h.secrets)
	}
	finds, _ := h.keys.Range(bytes.NewReader(content), 0, uint64(len(content)))
	for _, f := range finds {
		h.found = append(h.found, fmt.Sprintf("%s, at byte %d: %s", where, f.Address, f.Secret))
	}
}

// tree looks through the files of a directory, by content and by name.
func (h *hunt) tree(dir string) {
	h.t.Helper()
	before := h.looked
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return skipGone(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return skipGone(err)
		}
		h.bytes(path, append(content, "\n"+path...))
		return nil
	})
	must(h.t, err)
	if h.looked == before {
		h.t.Errorf("there is nothing in %s", dir)
	}
	h.none()
}

// skipGone is no error where a file went away under way.
func skipGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// process looks at what every user of a machine may see of a process, and at its
// environment.
func (h *hunt) process(pid int) {
	h.t.Helper()
	for _, name := range []string{"cmdline", "environ"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, name)
		content, err := os.ReadFile(path)
		must(h.t, err)
		if len(content) == 0 {
			h.t.Errorf("%s is empty", path)
		}
		h.bytes(path, content)
	}
	h.none()
}

// none fails the test where something was found.
func (h *hunt) none() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.found {
		h.t.Errorf("found in the clear: %s", f)
	}
	h.found = nil
}

// TestHunt: what is hidden in each of the forms is found.
func TestHunt(t *testing.T) {
	t.Parallel()
	h := newHunt(t)
	const secret = "correct-horse-battery"
	h.text("password", secret)
	pair, err := newCA(t).Server("ec", []string{"hunt.test"})
	must(t, err)
	h.key("key", pair.PrivateKey)
	secrets, err := memsearch.Secrets("key", pair.PrivateKey)
	must(t, err)
	hidden := map[string][]byte{"key": secrets[0].Value}
	for form, value := range map[string]string{"as it is": secret, "hex": hex.EncodeToString([]byte(secret))} {
		hidden[form] = []byte(value)
	}
	for before := range 4 {
		hidden[fmt.Sprintf("base64, %d", before)] = []byte(base64.StdEncoding.EncodeToString([]byte("xyz-"[:before] + secret + " and more")))
		hidden[fmt.Sprintf("base64url, %d", before)] = []byte(base64.RawURLEncoding.EncodeToString([]byte("xyz-"[:before] + secret + " and more")))
	}
	for form, value := range hidden {
		h.bytes(form, append(append([]byte("some <text> before "), value...), " and behind"...))
		if len(h.found) == 0 {
			t.Errorf("a secret is not found: %s, %q", form, value)
		}
		h.found = nil
	}
	if h.bytes("nothing", []byte("correct-horse-batterie")); len(h.found) != 0 {
		t.Errorf("found where it is not: %q", h.found)
	}
}
