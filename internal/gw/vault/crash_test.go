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
	"runtime/debug"
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

// changeUntilKilled seals, then changes the master key or moves it to the HSM or
// from there, then rotates the wrapping key, then the data key, over and over. It
// says "sealed TEXT" for what must open for ever, "master N" before and "changed
// N" after the change to the master key N, and "moved" and "rotated" after those.
func changeUntilKilled(args string) error {
	var dir string
	var n int
	if _, err := fmt.Sscan(args, &n, &dir); err != nil {
		return err
	}
	d := newDouble(dir)
	v, err := open(filepath.Join(dir, "vault"), Options{Wrapper: d}, quickCosts)
	if err != nil {
		return err
	}
	if err := v.Unlock(context.Background()); err != nil {
		return err
	}
	places := []*bool{nil, onHSM, offHSM}
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
		if err := v.ChangeMaster(context.Background(), Change{Current: current, New: masterAt(n), OnHSM: places[rand.IntN(3)]}); err != nil {
			return err
		}
		fmt.Println("changed", n)
		if err := v.ChangeMaster(context.Background(), Change{Current: masterAt(n), OnHSM: places[1+rand.IntN(2)]}); err != nil {
			return err
		}
		fmt.Println("moved")
		if rand.IntN(2) == 0 {
			if err := rotateAndSettle(v, d); err != nil {
				return err
			}
			fmt.Println("rotated")
		}
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

// rotateAndSettle has a member that holds the new wrapping key a moment later.
func rotateAndSettle(v *Vault, d *double) error {
	d.set(func(d *double) { d.missing = []string{"another"} })
	if _, err := v.RotateWrapping(context.Background()); err != nil {
		return err
	}
	d.set(func(d *double) { d.missing = nil })
	_, err := v.SettleWrapping(context.Background())
	return err
}

// TestKilled kills a process that changes keys, a hundred times, at any moment
// from its start on: the next one opens, what was sealed opens, and the master
// key is the one that was acknowledged or the one that was under way.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	master := 0
	did := map[string]int{}
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
				master = under
			}
			did[word]++
			said.WriteString(word + " ")
			if after--; after == 0 {
				time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, kill)
			}
		}
		if err := child.Wait(); err == nil || !child.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("the child ended by itself: %v, after %s", err, said.String())
		}
		v, err := open(filepath.Join(dir, "vault"), Options{Wrapper: newDouble(dir)}, quickCosts)
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		must(t, v.Unlock(t.Context()))
		if last != "" {
			wantSecret(t, v, "private-key", last, "secret")
		}
		if keys, err := readKeyFile(v.MasterKeyFile(), masterKind); v.Properties().OnHSM {
			wantNoFile(t, v)
		} else if err != nil || len(keys) != 1 {
			t.Errorf("after a kill and a start there are %d master keys, %v", len(keys), err)
		}
		now, err := v.masterNow(v.ring)
		must(t, err)
		// The key in force is one that the child spoke of.
		if m := v.ring.header.Master; m.KDF != "" {
			if err := proveCurrent(m, &now.key, masterAt(under)); err == nil {
				master = under
			} else {
				must(t, proveCurrent(m, &now.key, masterAt(master)))
			}
		}
		must(t, v.Close())
	}
	t.Logf("between a hundred kills: %v", did)
	if did["changed"] < 20 || did["moved"] < 10 || did["rotated"] < 3 {
		t.Errorf("between a hundred kills only %v: they came too early to say much", did)
	}
}

// changeOnFailingDisk changes keys while one call fails. It says "sealed TEXT",
// then "ok" or "failed" of each change, and "end" where the fault did not come
// up any more.
func changeOnFailingDisk(args string) error {
	var dir, hsm, how string
	var nth, errno int
	if _, err := fmt.Sscan(args, &nth, &errno, &how, &dir, &hsm); err != nil {
		return err
	}
	v, err := open(filepath.Join(dir, "vault"), Options{Wrapper: newDouble(hsm)}, quickCosts)
	if err != nil {
		return err
	}
	text, err := v.Seal("private-key", []byte("secret"))
	if err != nil {
		return err
	}
	fmt.Println("sealed", text)
	// The runtime's own writes wait for the goroutine that decides on them, too:
	// it must not be stopped meanwhile.
	debug.SetGCPercent(-1)
	calls, err := failing.Install(failing.Fault{Dir: dir, Nth: nth, Errno: syscall.Errno(errno), Short: how == "short", Sticky: how == "sticky"})
	if err != nil {
		return err
	}
	var failed error
	for _, change := range []func() error{
		func() error { return v.ChangeMaster(context.Background(), Change{New: []byte(masterOne)}) },
		func() error { _, err := v.RenewDataKeys(); return err },
		func() error {
			return v.ChangeMaster(context.Background(), Change{Current: currentOf(v), OnHSM: onHSM})
		},
		func() error { _, err := v.RotateWrapping(context.Background()); return err },
		func() error {
			return v.ChangeMaster(context.Background(), Change{Current: currentOf(v), OnHSM: offHSM})
		},
		func() error {
			return v.ChangeMaster(context.Background(), Change{Current: currentOf(v), New: []byte(masterOne), OnHSM: onHSM})
		},
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

// TestFailingDisk has each call on a file fail in turn, or every other one: the
// vault goes on, the next start opens what was sealed, and what was said to be
// changed is.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		how   string
		errno syscall.Errno
		step  int
	}{{"once", syscall.EIO, 1}, {"sticky", syscall.EIO, 2}, {"short", syscall.ENOSPC, 2}} {
		t.Run(fault.how, func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth += fault.step {
				if nth > 400 {
					t.Fatal("the calls come to no end")
				}
				dir, hsm := memoryDir(t), memoryDir(t)
				must(t, openIn(t, dir).Close())
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s %s %s", failEnv, nth, fault.errno, fault.how, dir, hsm))
				out, err := child.CombinedOutput()
				if err != nil {
					t.Fatalf("call %d: %v: %s", nth, err, out)
				}
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				v := openWith(t, dir, newDouble(hsm))
				must(t, v.Unlock(t.Context()))
				wantSecret(t, v, "private-key", strings.TrimPrefix(lines[0], "sealed "), "secret")
				if lines[1] == "ok" && v.Properties().Generated {
					t.Errorf("call %d: a change that was acknowledged is not there", nth)
				}
				if lines[2] == "ok" && len(v.DataKeys()) != 2 {
					t.Errorf("call %d: a data key that was acknowledged is not there", nth)
				}
				if on := v.Properties().OnHSM; lines[6] == "ok" && !on {
					t.Errorf("call %d: a move to the HSM that was acknowledged was none", nth)
				} else if on {
					wantNoFile(t, v)
				} else if keys, err := readKeyFile(v.MasterKeyFile(), masterKind); err != nil || len(keys) != 1 {
					t.Errorf("call %d: the next start left %d master keys, %v", nth, len(keys), err)
				}
				must(t, v.ChangeMaster(t.Context(), Change{Current: currentOf(v), New: []byte(masterTwo)}))
				if lines[len(lines)-1] == "end" {
					if nth < 40 {
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
