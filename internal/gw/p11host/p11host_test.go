package p11host

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/p11/p11test"
)

// TestKeys uses keys that an administrator made with pkcs11-tool, through every
// layer that a gateway does.
func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.Generate(t, label, "rsa:2048", "server", "01", "--usage-decrypt", "--usage-sign")
	w.store.Generate(t, label, "EC:prime256v1", "forward-trust", "02")
	w.start(t)
	s := w.await(t, Running)
	if s.Token != label || s.Serial == "" || !strings.Contains(s.Module, "SoftHSM") || s.PID == 0 || s.Restarts != 0 {
		t.Errorf("the status is %+v", s)
	}
	c := w.client(t, client.RoleCryptoUser)
	if got := c.Status(); got.Partition.Label != label || got.Serial != s.Serial {
		t.Errorf("the client sees %+v", got)
	}
	for _, name := range []string{"server", "forward-trust"} {
		k := key(t, c, name)
		if err := use(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found, err := c.FindKeyByPublic(t.Context(), k.Public())
		if err != nil || found.ID() != k.ID() {
			t.Errorf("%s by its public key: %v", name, err)
		}
	}
	if k, err := c.FindKeyByKeyID(t.Context(), []byte{2}); err != nil || k.ID() != key(t, c, "forward-trust").ID() {
		t.Errorf("by CKA_ID: %v", err)
	}

	// PSS, as TLS 1.3 asks for it, and decryption, as TLS 1.2 does.
	server := key(t, c, "server")
	digest := sha256.Sum256([]byte("a message"))
	public := server.Public().(*rsa.PublicKey)
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	if signature, err := server.Sign(rand.Reader, digest[:], pss); err != nil {
		t.Errorf("PSS: %v", err)
	} else if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, pss); err != nil {
		t.Errorf("PSS: %v", err)
	}
	secret := make([]byte, 48)
	rand.Read(secret)
	//lint:ignore SA1019 TLS 1.2's RSA key exchange is what is tested
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 likewise
	opened, err := server.(crypto.Decrypter).Decrypt(rand.Reader, sealed, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
	if err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("decrypting: %v", err)
	}

	// A Crypto User makes no keys; a Crypto Officer does.
	template := client.NewTemplate(client.TextAttr(client.AttrLabel, "wrapping"), client.BoolAttr(client.AttrEncrypt, true), client.BoolAttr(client.AttrDecrypt, true))
	if _, err := c.GenerateAES(t.Context(), 32, template); client.CodeOf(err) != client.ErrUserType {
		t.Errorf("a Crypto User makes a key: %v", err)
	}
	wrapping, err := w.client(t, client.RoleCryptoOfficer).GenerateAES(t.Context(), 32, template)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := c.Encrypt(t.Context(), wrapping, secret, []byte("master key"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := c.Decrypt(t.Context(), wrapping, wrapped, []byte("master key")); err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("unwrapping: %v", err)
	}
}

// TestDeaths uses keys from many goroutines while the process is killed, is
// stopped, crashes in the module and hangs in it: every call ends well, and in
// the end the process is another.
func TestDeaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.faults = p11test.NewFaults(t)
	w.store.Generate(t, label, "EC:prime256v1", "key", "01")
	w.start(t, func(c *Config) { c.Stall, c.Hang = 3*time.Second, time.Second })
	w.await(t, Running)
	c := w.client(t, client.RoleCryptoUser)
	k := key(t, c, "key")

	var done atomic.Bool
	var calls atomic.Int64
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for !done.Load() {
				if err := use(k); err != nil {
					t.Errorf("a call failed: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	// again waits until calls succeed in a process that is another than before.
	again := func(what string, before Status) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			s := w.host.Status()
			if s.State == Running && s.PID != before.PID {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the host is %+v", what, s)
			}
		}
		n := calls.Load()
		for end := time.Now().Add(patience); calls.Load() == n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: no call comes through any more", what)
			}
		}
	}
	var causes strings.Builder
	for _, fault := range []struct {
		name  string
		begin func(pid int)
		end   func()
	}{
		{"killed", func(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }, nil},
		{"stopped", func(pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }, nil},
		{"crashed in the module", func(int) { w.faults.Set(t, "crash") }, func() { w.faults.Set(t, "") }},
		{"hung in the module", func(int) { w.faults.Set(t, "hang") }, func() { w.faults.Set(t, "") }},
	} {
		before := w.await(t, Running)
		fault.begin(before.PID)
		if fault.end != nil {
			// It has done its harm when the process has ended.
			for end := time.Now().Add(patience); w.host.Status().PID == before.PID; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: the process goes on", fault.name)
				}
			}
			fault.end()
		}
		again(fault.name, before)
		fmt.Fprintln(&causes, w.host.Status().Ended)
	}
	done.Store(true)
	users.Wait()
	if causes.String() == "" || !strings.Contains(causes.String(), "it crashed: SIGSEGV") || !strings.Contains(causes.String(), "no sign of life") ||
		!strings.Contains(causes.String(), "C_Sign has not come back") {
		t.Errorf("the causes told were:\n%s", causes.String())
	}
	t.Logf("%d calls, %d restarts", calls.Load(), w.host.Status().Restarts)
}

// TestAway: the token goes away, and the process stays; the Host tells why.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.faults = p11test.NewFaults(t)
	w.store.Generate(t, label, "EC:prime256v1", "key", "01")
	w.start(t)
	before := w.await(t, Running)
	w.faults.Set(t, "return 0x101") // CKR_USER_NOT_LOGGED_IN, to each question
	c := w.client(t, client.RoleCryptoUser)
	// Opened anew it is found again, and lost by the next question.
	if _, err := c.FindKeyByLabel(t.Context(), "key"); err != nil {
		t.Errorf("searching: %v", err)
	}
	w.faults.Set(t, "")
	if err := use(key(t, c, "key")); err != nil {
		t.Error(err)
	}
	if after := w.await(t, Running); after.PID != before.PID {
		t.Errorf("the process is another: %+v, %+v", before, after)
	}
}

// TestRefusedPIN: a wrong PIN reaches the token once.
func TestRefusedPIN(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPIN("a wrong pin")
	w.start(t)
	s := w.await(t, Refused)
	if !strings.Contains(s.Cause, "PIN") || s.Fix == "" || s.PID != 0 {
		t.Errorf("the status is %+v", s)
	}
	time.Sleep(time.Second) // several pauses
	if s := w.host.Status(); s.State != Refused || s.Restarts != 0 || w.asked.Load() != 1 {
		t.Errorf("it was tried again: %+v, the PIN was asked for %d times", s, w.asked.Load())
	}
	w.setPIN(p11test.PIN)
	w.host.Restart()
	w.await(t, Running)
	if err := w.client(t, client.RoleCryptoUser).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCauses: what cannot work says why.
func TestCauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no module":     {func(c *Config) { c.Module = "/nowhere/lib.so" }, "there is no module /nowhere/lib.so"},
		"no PKCS#11":    {func(c *Config) { c.Module = libc(t) }, "no PKCS#11 module"},
		"no token":      {func(c *Config) { c.Token = "another" }, `no token "another", but "gateway"`},
		"no helper":     {func(c *Config) { c.Program = "/bin/false" }, "exit status 1"},
		"another tool":  {func(c *Config) { c.Program = "/bin/echo" }, "reading what moongate-p11 says"},
		"a silent tool": {func(c *Config) { c.Program = silent(t); c.Start = 200 * time.Millisecond }, "no sign of life"},
		"no PIN":        {func(c *Config) { c.PIN = func() ([]byte, error) { return nil, fs.ErrNotExist } }, "getting the PIN"},
		"an empty PIN":  {func(c *Config) { c.PIN = func() ([]byte, error) { return nil, nil } }, "PIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &world{store: w.store}
			v.setPIN(p11test.PIN)
			v.start(t, test.change)
			state := Waiting
			if name == "an empty PIN" {
				state = Refused
			}
			if s := v.await(t, state); !strings.Contains(s.Cause, test.want) {
				t.Errorf("the cause is %q, expected %q in it", s.Cause, test.want)
			}
		})
	}
	for name, change := range map[string]func(*Config){
		"a relative module": func(c *Config) { c.Module = "lib.so" },
		"no PIN":            func(c *Config) { c.PIN = nil },
		"no program":        func(c *Config) { c.Program = filepath.Join(t.TempDir(), Program) },
		"a directory":       func(c *Config) { c.Program = t.TempDir() },
		"a user type":       func(c *Config) { c.UserType = "user" },
		"a long path":       func(c *Config) { c.Dir = long(t) },
		"no directory":      func(c *Config) { c.Dir = "/nowhere" },
		"a zero byte":       func(c *Config) { c.Token = "a\x00b" },
	} {
		c := w.config(t)
		change(&c)
		if h, err := Start(c); err == nil {
			h.Close()
			t.Errorf("%s: Start takes it", name)
		}
	}
}

func libc(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob("/lib/*/libc.so.6")
	if err != nil || len(list) == 0 {
		t.Fatalf("no libc: %v", err)
	}
	return list[0]
}

func silent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "silent")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func long(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestRestart: a Restart ends the process that runs, and clients go on.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.Generate(t, label, "EC:prime256v1", "key", "01")
	w.start(t)
	before := w.await(t, Running)
	c := w.client(t, client.RoleCryptoUser)
	k := key(t, c, "key")
	w.host.Restart()
	for end := time.Now().Add(patience); w.host.Status().PID == before.PID; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the process goes on")
		}
	}
	if err := use(k); err != nil {
		t.Error(err)
	}
	if s := w.await(t, Running); s.Cause != "" {
		t.Errorf("a cause is told: %q", s.Cause)
	}
}

// TestSecrets: PIN and keys are in no file, no argument and no environment, and
// the socket is behind a directory that is nobody else's.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(t)
	s := w.await(t, Running)
	config := w.host.Client()
	secrets := map[string][]byte{"the PIN": []byte(p11test.PIN), "the helper's key": bytes.TrimSpace(w.host.pins.serverKey)[30:90]}
	for _, name := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID, name))
		if err != nil {
			// Nobody may look who is not root: that is as it should be.
			if !os.IsPermission(err) {
				t.Error(err)
			}
			continue
		}
		if found := holds(data, secrets); len(found) > 0 {
			t.Errorf("%s of the process holds %v", name, found)
		}
		if name == "cmdline" && !bytes.Contains(data, []byte(p11test.Module)) {
			t.Errorf("its arguments are %q", data)
		}
	}
	files := 0
	err := filepath.WalkDir(w.host.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		if !strings.HasSuffix(path, "socket") {
			t.Errorf("%s is in the socket's directory", path)
		}
		return nil
	})
	if err != nil || files != 1 {
		t.Errorf("%d files, %v", files, err)
	}
	if info, err := os.Stat(w.host.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}

	// Who has not got our certificate is not served, though the socket is his.
	certificate, private, err := client.NewCertificate("gateway")
	if err != nil {
		t.Fatal(err)
	}
	if config.Certificate, err = tls.X509KeyPair(certificate, private); err != nil {
		t.Fatal(err)
	}
	if c, err := client.Dial(t.Context(), config); err == nil {
		c.Close()
		t.Error("another certificate is served")
	} else if client.CodeOf(err) != client.ErrNotRegistered {
		t.Errorf("another certificate: %v", err)
	}
}
