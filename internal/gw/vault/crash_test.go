package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/internal/durable/failing"
)

// crashEnv makes the test binary a child that changes keys until it is killed,
// failEnv one that changes them while the disk fails.
const (
	crashEnv = "VAULT_TEST_CRASH"
	failEnv  = "VAULT_TEST_FAIL"
)

func TestMain(m *testing.M) {
	for name, child := range map[string]func(string) error{crashEnv: changeUntilKilled, failEnv: changeOnFailingDisk} {
		if args := os.Getenv(name); args != "" {
			if err := child(args); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// masterAt is the n-th master key that the child gives.
func masterAt(n int) []byte { return fmt.Appendf(nil, "master key number %d", n) }

// changeUntilKilled seals, then changes the master key, then the data key, over
// and over. It says "sealed TEXT" for what must open for ever, and "master N"
// before and "changed N" after the change to the master key N.
func changeUntilKilled(args string) error {
	var dir string
	var n int
	if _, err := fmt.Sscan(args, &n, &dir); err != nil {
		return err
	}
	v, err := open(filepath.Join(dir, "vault"), Options{}, quickCosts)
	if err != nil {
		return err
	}
	for {
		text, err := v.Seal("private-key", []byte("secret"))
		if err != nil {
			return err
		}
		fmt.Println("sealed", text)
		var current []byte
		if !v.Properties().Generated {
			current = masterAt(n)
		}
		n++
		fmt.Println("master", n)
		if err := v.ChangeMaster(context.Background(), Change{Current: current, New: masterAt(n)}); err != nil {
			return err
		}
		fmt.Println("changed", n)
		if _, err := v.RenewDataKeys(); err != nil {
			return err
		}
		if len(v.DataKeys()) < maxDataKeys-1 {
			continue
		}
		id, err := KeyOf(text)
		if err != nil {
			return err
		}
		if _, err := v.PruneDataKeys(map[string]bool{id: true}); err != nil {
			return err
		}
	}
}

// TestKilled kills a process that changes keys, a hundred times, at any moment
// from its start on: the next one opens, what was sealed opens, and the master
// key is the one that was acknowledged or the one that was under way.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	master := 0
	changed := 0
	for range 100 {
		var said strings.Builder
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", crashEnv, master, dir))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		kill := func() { child.Process.Kill() }
		// At any moment after its start, or after one of its first lines.
		after := rand.IntN(6)
		if after == 0 {
			time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, kill)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		under := master
		var last string
		for lines.Scan() {
			word, value, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "sealed":
				last = value
			case "master":
				_, err := fmt.Sscan(value, &under)
				must(t, err)
			case "changed":
				changed++
				master = under
			}
			said.WriteString(word + " ")
			if after--; after == 0 {
				time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, kill)
			}
		}
		if err := child.Wait(); err == nil || !child.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("the child ended by itself: %v, after %s", err, said.String())
		}
		v, err := open(filepath.Join(dir, "vault"), Options{}, quickCosts)
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		if last != "" {
			wantSecret(t, v, "private-key", last, "secret")
		}
		keys, err := readKeyFile(v.MasterKeyFile(), masterKind)
		if err != nil || len(keys) != 1 {
			t.Errorf("after a kill and a start there are %d master keys, %v", len(keys), err)
		}
		// The key in force is one that the child spoke of.
		if m := v.ring.header.Master; m.KDF != "" {
			if err := proveCurrent(m, &keys[0].key, masterAt(under)); err == nil {
				master = under
			} else {
				must(t, proveCurrent(m, &keys[0].key, masterAt(master)))
			}
		}
		must(t, v.Close())
	}
	t.Logf("%d master keys were changed between a hundred kills", changed)
	if changed < 20 {
		t.Errorf("only %d master keys were changed: the kills came too early to say much", changed)
	}
}

// changeOnFailingDisk changes keys while one call fails. It says "sealed TEXT",
// then "ok" or "failed" of each change, and "end" where the fault did not come
// up any more.
func changeOnFailingDisk(args string) error {
	var dir, how string
	var nth, errno int
	if _, err := fmt.Sscan(args, &nth, &errno, &how, &dir); err != nil {
		return err
	}
	v, err := open(filepath.Join(dir, "vault"), Options{}, quickCosts)
	if err != nil {
		return err
	}
	text, err := v.Seal("private-key", []byte("secret"))
	if err != nil {
		return err
	}
	fmt.Println("sealed", text)
	calls, err := failing.Install(failing.Fault{Dir: dir, Nth: nth, Errno: syscall.Errno(errno), Short: how == "short", Sticky: how == "sticky"})
	if err != nil {
		return err
	}
	var failed error
	for _, change := range []func() error{
		func() error { return v.ChangeMaster(context.Background(), Change{New: []byte(masterOne)}) },
		func() error { _, err := v.RenewDataKeys(); return err },
	} {
		if err := change(); err != nil {
			failed = errors.Join(failed, err)
			fmt.Println("failed", strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Println("ok")
		}
		if plain, err := v.Open("private-key", text); err != nil || string(plain) != "secret" {
			return fmt.Errorf("the vault does not go on: opened as %q, %w", plain, err)
		}
	}
	if calls.Failed() == 0 && failed == nil {
		fmt.Println("end")
	}
	return nil // without closing: as a kill
}

// TestFailingDisk has each call on a file fail in turn: the vault goes on, the
// next start opens what was sealed, and what was said to be changed is.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		how   string
		errno syscall.Errno
	}{{"once", syscall.EIO}, {"sticky", syscall.EIO}, {"short", syscall.ENOSPC}} {
		t.Run(fault.how, func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth++ {
				if nth > 200 {
					t.Fatal("the calls come to no end")
				}
				dir := memoryDir(t)
				must(t, openIn(t, dir).Close())
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s %s", failEnv, nth, fault.errno, fault.how, dir))
				out, err := child.CombinedOutput()
				if err != nil {
					t.Fatalf("call %d: %v: %s", nth, err, out)
				}
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				v := openIn(t, dir)
				wantSecret(t, v, "private-key", strings.TrimPrefix(lines[0], "sealed "), "secret")
				if lines[1] == "ok" && v.Properties().Generated {
					t.Errorf("call %d: a change that was acknowledged is not there", nth)
				}
				if lines[2] == "ok" && len(v.DataKeys()) != 2 {
					t.Errorf("call %d: a data key that was acknowledged is not there", nth)
				}
				must(t, v.ChangeMaster(context.Background(), Change{Current: currentOf(v), New: []byte(masterTwo)}))
				if lines[len(lines)-1] == "end" {
					if nth < 15 {
						t.Errorf("only %d calls could fail", nth-1)
					}
					return
				}
			}
		})
	}
}

// currentOf is the master key that changeOnFailingDisk left.
func currentOf(v *Vault) []byte {
	if v.Properties().Generated {
		return nil
	}
	return []byte(masterOne)
}
