package store_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"go.etcd.io/bbolt"
)

// crashEnv makes the test binary a child that changes the store in a directory
// until it is killed: "directory root-key partition partition-key", in hex.
const crashEnv = "STORE_TEST_CRASH"

func TestMain(m *testing.M) {
	for name, child := range map[string]func(args string) error{
		crashEnv: changeUntilKilled, store.EraseEnv: store.EraseUntilKilled, store.FailEnv: store.FailingChild,
	} {
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

// secretOf is what the child keeps in an object, known to both sides.
func secretOf(id object.ID) []byte {
	sum := sha256.Sum256(id[:])
	return bytes.Repeat(sum[:], 40) // as long as an RSA key
}

// changeUntilKilled acknowledges on standard output, in one write a line, what
// Update has returned for: "put ID", "changed ID" or "deleted ID".
func changeUntilKilled(args string) error {
	var dir, root, partition, key string
	if _, err := fmt.Sscan(args, &dir, &root, &partition, &key); err != nil {
		return err
	}
	var rootKey store.RootKey
	var partitionKey store.PartitionKey
	var p object.ID
	for text, into := range map[string][]byte{root: rootKey[:], partition: p[:], key: partitionKey[:]} {
		if _, err := hex.Decode(into, []byte(text)); err != nil {
			return err
		}
	}
	s, err := store.Open(dir, rootKey, store.Options{})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 4 {
		go func() {
			for {
				if err := changeOnce(s, p, &partitionKey); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func changeOnce(s *store.Store, p object.ID, key *store.PartitionKey) error {
	o := newObject("crash")
	o.Secret = secretOf(o.ID)
	put := func(tx *store.Tx) error { _, err := tx.PutObject(p, key, o); return err }
	if err := s.Update(put); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "put %v\n", o.ID)
	switch o.ID[0] % 3 {
	case 0:
		o.Attributes = o.Attributes.With(object.Text(object.AttrLabel, "changed"))
		if err := s.Update(put); err != nil {
			return err
		}
		fmt.Fprintf(os.Stdout, "changed %v\n", o.ID)
	case 1:
		if err := s.Update(func(tx *store.Tx) error { _, err := tx.DeleteObject(p, o.ID); return err }); err != nil {
			return err
		}
		fmt.Fprintf(os.Stdout, "deleted %v\n", o.ID)
	}
	return nil
}

// What Update acknowledged is there after kill -9 at any moment, and the file
// opens as it is.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	w := newWorld(t)
	acknowledged := map[object.ID]string{}
	for range rounds {
		w.close()
		runAndKill(t, w, acknowledged)
		checkPages(t, w.path())
		w.open()
		for id, state := range acknowledged {
			checkAcknowledged(t, w, id, state)
		}
		// What is there beyond that was written whole.
		err := w.View(func(tx *store.Tx) error {
			for o, err := range tx.Objects(w.partition, w.key) {
				if err != nil {
					return err
				}
				whole, err := tx.Object(w.partition, w.key, o.ID)
				if err != nil || !bytes.Equal(whole.Secret, secretOf(o.ID)) {
					return fmt.Errorf("object %v: %w", o.ID, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < rounds {
		t.Errorf("only %d changes were acknowledged; nothing was tested", len(acknowledged))
	}
	t.Logf("%d objects were acknowledged before %d kills", len(acknowledged), rounds)
}

func runAndKill(t *testing.T, w *world, acknowledged map[object.ID]string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashEnv+"="+fmt.Sprintf("%s %x %x %x", w.dir, w.root[:], w.partition[:], w.key[:]))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	// The moment is random: so many acknowledged changes, and a little more.
	after, kill := 1+rand.IntN(60), sync.OnceFunc(func() { child.Process.Kill() })
	defer kill()
	lines := bufio.NewScanner(stdout)
	for n := 0; lines.Scan(); n++ {
		state, id, _ := strings.Cut(lines.Text(), " ")
		parsed, err := object.ID{}, error(nil)
		if err = parsed.UnmarshalText([]byte(id)); err != nil {
			break // the last line, cut by the kill
		}
		acknowledged[parsed] = state
		if n == after {
			time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, kill)
		}
	}
	kill()
	child.Wait() // reports the kill
	if stderr.Len() > 0 {
		t.Fatalf("child: %s", &stderr)
	}
}

func checkAcknowledged(t *testing.T, w *world, id object.ID, state string) {
	t.Helper()
	o, err := w.object(id)
	if state == "deleted" || errors.Is(err, store.ErrNotFound) && id[0]%3 == 1 {
		// Deleted, or its deletion was on the way when the kill came.
		if !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("object %v, acknowledged as deleted: %v, %v", id, o, err)
		}
		return
	}
	if err != nil || !bytes.Equal(o.Secret, secretOf(id)) {
		t.Fatalf("object %v, acknowledged as %s: %v", id, state, err)
	}
	if label := o.Attributes.Text(object.AttrLabel); state == "changed" && label != "changed" {
		t.Fatalf("object %v, acknowledged as changed, has the label %q", id, label)
	}
}

// checkPages has bbolt check every page.
func checkPages(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		var all []error
		for err := range tx.Check() {
			all = append(all, err)
		}
		return errors.Join(all...)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("after the kill: %v", err)
	}
}

// A kill while the store or its root key is being made leaves something that
// the next start copes with.
func TestLeftoversOfACreationDoNotHinder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"." + store.FileName + "-123", ".root.key-123"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := store.LoadOrCreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
