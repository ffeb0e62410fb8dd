package store_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// A store of format 1, as the first version wrote it, lies in testdata with
// its root key. It is never written again: every later version must open it.
// A new format gets a golden store of its own:
//
//	go test ./internal/hsm/store -run Golden -golden testdata/formatN
var (
	golden         = flag.String("golden", "", "write a golden store into this new directory")
	goldenRestored = flag.String("golden-restored", "", "write a golden store of what was restored into this new directory")
	goldenReplica  = flag.String("golden-replica", "", "write a golden store with replicas into this new directory")
)

var (
	goldenPartition = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	goldenKey       = &object.Object{
		ID: uuid.MustParse("22222222-2222-4222-8222-222222222222"),
		// The defaults of that time: CKA_DERIVE came later.
		Attributes: object.Defaults(object.ClassPrivateKey).Without(object.AttrDerive).Merge(object.New(
			object.Text(object.AttrLabel, "golden key"), object.Bytes(object.AttrID, []byte{1, 2, 3}))),
		Secret: []byte("not really PKCS#8"),
	}
	goldenCertificate = &object.Object{
		ID:         uuid.MustParse("33333333-3333-4333-8333-333333333333"),
		Attributes: object.Defaults(object.ClassCertificate).With(object.Bytes(object.AttrValue, []byte("not really X.509"))),
	}
	goldenGone     = uuid.MustParse("44444444-4444-4444-8444-444444444444")
	goldenPassword = [32]byte{5: 5}
	goldenContext  = []byte("golden context")
	goldenTime     = time.Unix(1_784_000_000, 0).UTC()
)

func TestGoldenStoreOpens(t *testing.T) {
	t.Parallel()
	if *golden != "" {
		writeGolden(t, *golden)
	}
	s := openCopy(t, "format1")
	defer s.Close()
	if !s.Created().Equal(goldenTime) {
		t.Errorf("created %v, want %v", s.Created(), goldenTime)
	}
	if err := s.View(func(tx *store.Tx) error { return checkGolden(t, s, tx) }); err != nil {
		t.Fatal(err)
	}
	// It is a store like any other.
	fresh := newObject("fresh")
	err := s.Update(func(tx *store.Tx) error {
		_, err := tx.PutObject(goldenPartition, openGolden(t, s, tx), fresh)
		return err
	})
	if err != nil || fresh.Handle != 4 {
		t.Errorf("writing to it: handle %d, %v", fresh.Handle, err)
	}
}

// openCopy opens a copy of a golden store.
func openCopy(t *testing.T, name string) *store.Store {
	t.Helper()
	dir := t.TempDir()
	for _, file := range []string{store.FileName, "root.key"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := store.LoadRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, root, store.Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A store of what the first version that restored put in, once as it was and
// once over itself: other origins, and objects that are sealed for an earlier
// place.
func TestGoldenRestoredStoreOpens(t *testing.T) {
	t.Parallel()
	if *goldenRestored != "" {
		writeGoldenRestored(t, *goldenRestored)
	}
	s := openCopy(t, "format1-restored")
	defer s.Close()
	err := s.View(func(tx *store.Tx) error {
		raw, err := tx.Raw(goldenPartition)
		if err != nil || raw.Origin == s.ID() || raw.Sequence != 8 {
			t.Errorf("partition %+v, %v", raw, err)
		}
		key := openGolden(t, s, tx)
		for _, want := range []*object.Object{goldenKey, goldenCertificate} {
			got, err := tx.Object(goldenPartition, key, want.ID)
			if err != nil {
				return err
			}
			if string(got.Secret) != string(want.Secret) {
				t.Errorf("object %v has the secret %q", want.ID, got.Secret)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A store of format 1 as the first version with replicas left it: the first one,
// in which one object has changed since, one came from another HSM, and one was
// remembered as destroyed there.
func TestGoldenReplicaStoreOpens(t *testing.T) {
	t.Parallel()
	if *goldenReplica != "" {
		writeGoldenReplica(t, *goldenReplica)
	}
	s := openCopy(t, "format1-replica")
	defer s.Close()
	w := &world{Store: s, t: t, partition: goldenPartition}
	if err := s.View(func(tx *store.Tx) error { w.key = openGolden(t, s, tx); return nil }); err != nil {
		t.Fatal(err)
	}
	me := w.replica()
	if me == (object.ReplicaID{}) {
		t.Error("the partition has no replica ID")
	}
	changed := w.item(goldenKey.ID)
	if v := changed.Vector; len(v) != 2 || v[0].Changes+v[1].Changes != 3 || changed.Stamp != (object.Stamp{Count: 3, Replica: me}) {
		t.Errorf("the changed object has the history %+v", changed.History)
	}
	if old := w.item(goldenCertificate.ID); len(old.Vector) != 1 || old.Vector[0].Changes != 1 {
		t.Errorf("the old object has the history %+v", old.History)
	}
	if came := w.item(goldenCame.ID); cmp.Diff(goldenCame.History, came.History) != "" || came.Handle != goldenCame.Handle || string(came.Secret) != string(goldenCame.Secret) {
		t.Errorf("the object that came: %+v", came)
	}
	for _, id := range []object.ID{goldenGone, goldenGoneThere} {
		if it := w.item(id); !it.Deleted || !it.At.Equal(goldenTime) {
			t.Errorf("destroyed: %+v", it)
		}
	}
}

var (
	goldenGoneThere = uuid.MustParse("55555555-5555-4555-8555-555555555555")
	goldenCame      = &replica.Item{
		ID: uuid.MustParse("66666666-6666-4666-8666-666666666666"), Handle: 9,
		History:    replica.First(object.ReplicaID{7}),
		Attributes: object.Defaults(object.ClassSecretKey),
		Secret:     []byte("of another HSM"),
	}
)

func writeGoldenReplica(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "format1"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := store.LoadRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, root, store.Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(tx *store.Tx) error {
		key := openGolden(t, s, tx)
		came := *goldenCame
		_, perr := tx.PutObject(goldenPartition, key, goldenKeyCopy())
		return errors.Join(perr, tx.PutItem(goldenPartition, key, &came),
			tx.PutItem(goldenPartition, key, &replica.Item{ID: goldenGoneThere, Deleted: true, At: goldenTime}))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

func writeGoldenRestored(t *testing.T, dir string) {
	t.Helper()
	from := openCopy(t, "format1")
	defer from.Close()
	w := &world{Store: from, t: t, partition: goldenPartition}
	raw, list := w.export()
	var key *store.PartitionKey
	if err := from.View(func(tx *store.Tx) error { key = openGolden(t, from, tx); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := store.LoadOrCreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, root, store.Options{Now: func() time.Time { return goldenTime }})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.SealKey(goldenPassword, goldenContext, key)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(tx *store.Tx) error {
		return errors.Join(tx.PutRecord("role", "co", sealed), tx.RestorePartition(raw, each(list)))
	})
	if err == nil {
		err = s.Update(func(tx *store.Tx) error { return tx.ReplacePartition(raw, each(list)) })
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

func openGolden(t *testing.T, s *store.Store, tx *store.Tx) *store.PartitionKey {
	t.Helper()
	sealed, err := tx.Record("role", "co")
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.OpenKey(goldenPassword, goldenContext, sealed)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func checkGolden(t *testing.T, s *store.Store, tx *store.Tx) error {
	key := openGolden(t, s, tx)
	for i, want := range []*object.Object{goldenKey, goldenCertificate} {
		want := *want
		want.Handle = uint64(i + 1)
		got, err := tx.Object(goldenPartition, key, want.ID)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(&want, got, cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })); diff != "" {
			t.Errorf("object (-want +got):\n%s", diff)
		}
	}
	want := []store.Change{
		{ID: goldenCertificate.ID, Sequence: 2, Version: 1},
		{ID: goldenKey.ID, Sequence: 4, Version: 2},
		{ID: goldenGone, Sequence: 5, Version: 2, Deleted: true, At: goldenTime},
	}
	var got []store.Change
	for c, err := range tx.ChangesSince(goldenPartition, 0) {
		if err != nil {
			return err
		}
		got = append(got, c)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	return nil
}

func writeGolden(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := store.LoadOrCreateRootKey(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, root, store.Options{Now: func() time.Time { return goldenTime }})
	if err != nil {
		t.Fatal(err)
	}
	key := store.NewPartitionKey()
	sealed, err := s.SealKey(goldenPassword, goldenContext, key)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(tx *store.Tx) error {
		gone := newObject("gone")
		gone.ID = goldenGone
		err := errors.Join(tx.CreatePartition(goldenPartition), tx.PutRecord("role", "co", sealed))
		for _, o := range []*object.Object{goldenKey, goldenCertificate, gone, goldenKey} {
			_, perr := tx.PutObject(goldenPartition, key, o)
			err = errors.Join(err, perr)
		}
		_, derr := tx.DeleteObject(goldenPartition, gone.ID)
		return errors.Join(err, derr)
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
