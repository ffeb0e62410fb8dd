package daemon

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"moongate/internal/gw/logstore"
)

var passphrase = []byte("the backup's passphrase")

// TestBackup: a gateway that is restored elsewhere is the one that was backed
// up. A passphrase takes time, so that there is one of each here; e2e has the
// backup of a gateway that runs.
func TestBackup(t *testing.T) {
	t.Parallel()
	r := start(t, gateway(t, freePort(t), nil))
	password := r.password()
	web, err := os.ReadFile(In(r.dir).WebCertificate())
	must(t, err)
	r.stop()
	file := filepath.Join(t.TempDir(), "a.backup")
	if _, err := CreateBackup(t.Context(), r.dir, file, BackupRequest{Passphrase: []byte("short")}); err == nil {
		t.Error("a short passphrase was taken")
	}
	if n, err := CreateBackup(t.Context(), r.dir, file, BackupRequest{Passphrase: passphrase, Logs: true}); err != nil || n < 8 {
		t.Fatalf("%d files, %v", n, err)
	}
	if _, err := CreateBackup(t.Context(), r.dir, file, BackupRequest{Passphrase: passphrase}); err == nil {
		t.Error("a file that is there was written over")
	}
	if err := Restore(file, r.dir, passphrase); err == nil || !strings.Contains(err.Error(), "holds something already") {
		t.Errorf("restored onto a gateway: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "new", "gateway")
	cut := filepath.Join(t.TempDir(), "cut.backup")
	raw, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(cut, raw[:len(raw)-1], 0o600))
	if err := Restore(cut, dir, passphrase); err == nil {
		t.Error("a backup that is not whole was restored")
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	must(t, Restore(file, dir, passphrase))
	if raw, err := os.ReadFile(In(dir).WebCertificate()); err != nil || string(raw) != string(web) {
		t.Errorf("the certificate is another one, %v", err)
	}
	if _, err := os.Stat(In(dir).FirstPassword()); err == nil {
		t.Error("a password in the clear is in the backup")
	}
	onlyOwner(t, dir)
	restored := start(t, dir)
	if len(restored.said) > 0 {
		t.Errorf("it says %q", restored.said)
	}
	if _, err := restored.login(password, "show clock"); err != nil {
		t.Error(err)
	}
	restored.stop()
	reader := logstore.OpenReader(In(dir).Log())
	defer reader.Close()
	list, err := reader.Query(t.Context(), logstore.Query{Log: logstore.Config, Filter: "( admin eq console )"})
	if err != nil || len(list) != 1 {
		t.Errorf("the configuration log has %d entries of the first start, %v", len(list), err)
	}
}

// onlyOwner wants no secret open to others.
func onlyOwner(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && e.IsDir() && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

// TestResetAdministrator: who has the machine gets in again, into a gateway that
// runs and into one that does not.
func TestResetAdministrator(t *testing.T) {
	t.Parallel()
	r := start(t, gateway(t, freePort(t), nil))
	reset := func(name, password string, create bool) error {
		return ResetAdministrator(t.Context(), r.dir, ResetRequest{Name: name, Password: []byte(password), Create: create})
	}
	old := r.password()
	must(t, reset(FirstAdmin, "the second password", false))
	if _, err := r.login(old, "show clock"); err == nil {
		t.Error("the old password still opens")
	}
	if _, err := r.login("the second password", "show clock"); err != nil {
		t.Errorf("after a reset while it runs: %v", err)
	}
	if err := reset("nobody", "the third password", false); err == nil || !strings.Contains(err.Error(), "-create") {
		t.Errorf("an account that is not there: %v", err)
	}
	if err := reset(FirstAdmin, "short", false); err == nil {
		t.Error("a short password was taken")
	}
	if info, err := os.Stat(In(r.dir).Console()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the console's socket: %v, %v", info, err)
	}
	r.stop()
	must(t, reset(FirstAdmin, "the third password", false))
	must(t, reset("helper", "the helper's password", true))
	again := start(t, r.dir)
	if _, err := again.login("the third password", "show clock"); err != nil {
		t.Errorf("after a reset while it did not run: %v", err)
	}
	s, err := Running(In(r.dir))
	must(t, err)
	if len(s.Administrators) != 2 {
		t.Errorf("the administrators are %+v", s.Administrators)
	}
}

// TestListenersMove: the management follows its settings, and the session that
// committed them does not end by it.
func TestListenersMove(t *testing.T) {
	t.Parallel()
	r := start(t, gateway(t, freePort(t), nil))
	before := r.at
	fresh := freePort(t)
	script := "configure\nset deviceconfig setting management https-port " + strconv.Itoa(fresh) + "\ncommit\nexit\nshow clock\nexit\n"
	out, err := r.pipe(script)
	if err != nil || !strings.Contains(out, "Configuration committed successfully") {
		t.Fatalf("%v\n%s", err, out)
	}
	r.at.HTTPS = "127.0.0.1:" + strconv.Itoa(fresh)
	if code, _ := r.web("/health/alive"); code != 200 {
		t.Errorf("the new port answers %d", code)
	}
	if _, err := net.Dial("tcp", before.HTTPS); err == nil {
		t.Error("the old port is open")
	}

	// An address that covers the one in use.
	out, err = r.pipe("configure\nset deviceconfig setting management listen-address 0.0.0.0\ncommit\nexit\nexit\n")
	if err != nil || !strings.Contains(out, "Configuration committed successfully") {
		t.Fatalf("%v\n%s", err, out)
	}
	if code, _ := r.web("/health/alive"); code != 200 {
		t.Errorf("the wider address answers %d", code)
	}
	if s, err := Running(In(r.dir)); err != nil || s.Management.Address.String() != "0.0.0.0" {
		t.Errorf("the running configuration is %+v, %v", s, err)
	}
}
