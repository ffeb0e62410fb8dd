package p11test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Faults is a module around SoftHSM2's that misbehaves when told to.
type Faults struct {
	Path string // of the module
	file string // what it obeys
}

// NewFaults compiles one, which takes gcc.
func NewFaults(t testing.TB) *Faults {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		t.Fatalf("looking for PKCS#11's headers: %v", err)
	}
	dir := t.TempDir()
	f := &Faults{Path: filepath.Join(dir, "libfaults.so"), file: filepath.Join(dir, "fault")}
	cmd := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-I"+strings.TrimSpace(string(headers)),
		"-o", f.Path, filepath.Join(filepath.Dir(here), "testdata", "faults.c"), "-ldl")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("compiling the module of the test: %v\n%s", err, &errs)
	}
	return f
}

// Env are the environment variables that the module needs.
func (f *Faults) Env() []string { return []string{"FAULTS_FILE=" + f.file, "FAULTS_MODULE=" + Module} }

// Set has C_Sign, C_Decrypt and C_GetSessionInfo misbehave from now on: "hang",
// "crash", or "return N". Empty ends it.
func (f *Faults) Set(t testing.TB, what string) {
	t.Helper()
	if what == "" {
		if err := os.Remove(f.file); err != nil {
			t.Error(err)
		}
		return
	}
	temp := f.file + ".new"
	if err := os.WriteFile(temp, fmt.Appendln(nil, what), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, f.file); err != nil {
		t.Fatal(err)
	}
}
