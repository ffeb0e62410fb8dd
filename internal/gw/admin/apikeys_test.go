package admin

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiKey makes a key of root's.
func (w *world) apiKey() string {
	w.t.Helper()
	key, _, err := w.NewAPIKey("root")
	must(w.t, err)
	return key
}

func (w *world) wantKey(key string) {
	w.t.Helper()
	if id, err := w.APIKey(w.t.Context(), here, key); err != nil || id.Name != "root" {
		w.t.Errorf("an API key: %+v, %v", id, err)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, expires, err := w.NewAPIKey("root")
	must(t, err)
	if !expires.IsZero() || len(key) != keyLength || key == w.apiKey() {
		t.Errorf("key of %d characters, expires %v", len(key), expires)
	}
	w.reopen()
	w.wantKey(key)
	raw, err := os.ReadFile(filepath.Join(w.dir, "api-keys.json"))
	must(t, err)
	if bytes.Contains(raw, []byte(key[len(keyPrefix):len(keyPrefix)+10])) {
		t.Error("the key is on disk")
	}
	if info, err := os.Stat(filepath.Join(w.dir, "api-keys.json")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	for _, wrong := range []string{"", key[:len(key)-1], key + "A", strings.ToUpper(key), keyPrefix + strings.Repeat("A", keyLength-len(keyPrefix)), key[:len(key)-2] + "AA", strings.Repeat("x", 5<<20)} {
		_, err := w.APIKey(t.Context(), here, wrong)
		wantRefused(t, err, "API key")
	}
	// The role is the one of now.
	w.root.Role = SuperReader
	must(t, w.SetAccounts([]Account{w.root}))
	if id, err := w.APIKey(t.Context(), here, key); err != nil || id.Role != SuperReader {
		t.Errorf("after the role changed: %+v, %v", id, err)
	}
	list := w.APIKeys("root")
	if len(list) != 2 || list[0].LastUsed != w.now || !list[1].LastUsed.IsZero() || list[0].Name != "root" || len(w.APIKeys("other")) != 0 || len(w.APIKeys("")) != 2 {
		t.Errorf("listed as %+v", list)
	}
	if n, err := w.RevokeAPIKeys("other", list[0].ID); err != nil || n != 0 {
		t.Errorf("another's key is revoked by its id: %d, %v", n, err)
	}
	if n, err := w.RevokeAPIKeys("root", list[0].ID); err != nil || n != 1 {
		t.Errorf("revoked %d, %v", n, err)
	}
	w.reopen()
	_, err = w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "revoked")
	w.apiKey()
	if n, err := w.RevokeAPIKeys("root"); err != nil || n != 2 {
		t.Errorf("revoked %d, %v", n, err)
	}
	w.apiKey()
	if n, err := w.RevokeAllAPIKeys(); err != nil || n != 1 {
		t.Errorf("revoked %d, %v", n, err)
	}
}

func TestAPIKeysExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{APIKeyLifetime: time.Hour})
	key, expires, err := w.NewAPIKey("root")
	must(t, err)
	if !expires.Equal(w.now.Add(time.Hour)) {
		t.Errorf("expires %v", expires)
	}
	w.now = w.now.Add(time.Hour - time.Second)
	w.wantKey(key)
	w.now = w.now.Add(time.Second)
	w.reopen()
	_, err = w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "expired")
	w.apiKey()
	if list := w.APIKeys(""); len(list) != 1 {
		t.Errorf("an expired key is kept: %+v", list)
	}
}

// TestAPIKeysEndWithThePassword, and with the account, for good.
func TestAPIKeysEndWithThePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.root
	key := w.apiKey()
	w.root.PasswordHash = hashOf(t, "another password")
	must(t, w.SetAccounts([]Account{w.root}))
	_, err := w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "revoked")
	w.root = before // as when an older configuration is loaded
	w.reopen()
	_, err = w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "revoked")

	key = w.apiKey()
	must(t, w.SetAccounts([]Account{{Name: "other", Role: Superuser}}))
	w.reopen()
	_, err = w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "revoked")

	// A configuration that could not be read revokes nothing, and lets nobody in.
	key = w.apiKey()
	must(t, w.SetAccounts(nil))
	_, err = w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "gone")
	w.reopen()
	w.wantKey(key)
}

func TestAPIKeysAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.apiKey()
	w.now = w.now.Add(time.Second)
	second := w.apiKey()
	for range maxKeysOfAccount - 2 {
		w.now = w.now.Add(time.Second)
		w.apiKey()
	}
	w.now = w.now.Add(time.Second)
	w.wantKey(first) // so the second one is unused longest
	last := w.apiKey()
	w.wantKey(first)
	w.wantKey(last)
	_, err := w.APIKey(t.Context(), here, second)
	wantRefused(t, err, "revoked")
	if n := len(w.APIKeys("root")); n != maxKeysOfAccount {
		t.Errorf("%d keys", n)
	}
}

func TestAPIKeysAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			key, _, err := w.NewAPIKey("root")
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				w.wantKey(key)
				w.APIKeys("")
			}
		})
	}
	wg.Wait()
	w.reopen()
	if n := len(w.APIKeys("root")); n != 8 {
		t.Errorf("%d keys", n)
	}
}

// TestDamagedFiles are errors that name the file and what to do.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apiKey()
	w.try("root", "wrong", here)
	for _, name := range []string{"api-keys.json", "logins.json"} {
		path := filepath.Join(w.dir, name)
		good, err := os.ReadFile(path)
		must(t, err)
		for what, bad := range map[string][]byte{
			"empty": {}, "cut": good[:len(good)-2], "twice": append(bytes.Clone(good), good...), "huge": make([]byte, 8<<20),
			"an unknown field": bytes.Replace(good, []byte("\t\"version\": 1,"), []byte("\t\"version\": 1,\n\t\"x\": 1,"), 1),
			"a later version":  bytes.Replace(good, []byte("\"version\": 1"), []byte("\"version\": 2"), 1),
			"other spaces":     bytes.ReplaceAll(good, []byte("\t"), []byte(" ")),
		} {
			must(t, os.WriteFile(path, bad, 0o600))
			if _, err := Open(Options{Dir: w.dir}); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		must(t, os.WriteFile(path, good, 0o600))
		must(t, os.Chmod(path, 0o644))
		if _, err := Open(Options{Dir: w.dir}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%s that others can read: %v", name, err)
		}
		must(t, os.Chmod(path, 0o600))
	}
	w.reopen()
}

func FuzzDecodeKeys(f *testing.F) {
	w := newWorld(f)
	w.apiKey()
	raw, err := os.ReadFile(filepath.Join(w.dir, "api-keys.json"))
	must(f, err)
	f.Add(raw)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := decodeKeys(raw)
		if err != nil {
			return
		}
		if again, err := encodeJSON(s); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q is read, and written as %q, %v", raw, again, err)
		}
	})
}

func FuzzDecodeLogins(f *testing.F) {
	w := newWorld(f)
	w.try("root", "wrong", here)
	w.try("root", password, somewhere())
	raw, err := os.ReadFile(filepath.Join(w.dir, "logins.json"))
	must(f, err)
	f.Add(raw)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := decodeLogins(raw)
		if err != nil {
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q is read, and written as %q, %v", raw, again, err)
		}
	})
}

// TestRevocationWithoutADisk: what cannot be written is obeyed all the same.
func TestRevocationWithoutADisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey()
	w.keys.path = filepath.Join(w.dir, "none", "api-keys.json")
	w.root.PasswordHash = hashOf(t, "another password")
	if err := w.SetAccounts([]Account{w.root}); err == nil || !strings.Contains(err.Error(), "writing the API keys") {
		t.Errorf("a revocation that is not on disk: %v", err)
	}
	_, err := w.APIKey(t.Context(), here, key)
	wantRefused(t, err, "before its password was changed")
	if _, _, err := w.NewAPIKey("root"); err == nil || len(w.APIKeys("")) != 1 {
		t.Errorf("a key that is not on disk: %v", err)
	}
}
