package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/internal/hsm/object"

	"go.etcd.io/bbolt"
)

// crafted returns a store's file with branches, inline buckets, overflowing
// pages and free pages.
func crafted(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, RootKey{1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		p, key := object.NewID(), NewPartitionKey()
		err := s.Update(func(tx *Tx) error {
			err := errors.Join(tx.CreatePartition(p), tx.PutRecord("k", "long", make([]byte, 10_000)))
			for range i * 40 {
				o := &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassSecretKey)}
				_, perr := tx.PutObject(p, key, o)
				err = errors.Join(err, perr)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// resum makes the meta pages whole again after they were changed.
func resum(data []byte) {
	for _, at := range []int{0, 4096} {
		if b := data[at+pageHeader:]; order.Uint32(b) == boltMagic {
			sum := fnv.New64a()
			sum.Write(b[:56])
			order.PutUint64(b[56:], sum.Sum64())
		}
	}
}

// walk has bbolt read and write everything.
func walk(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoSync: true, NoGrowSync: true})
	if err != nil {
		return nil // refused
	}
	var deeper func(b *bbolt.Bucket) error
	deeper = func(b *bbolt.Bucket) error {
		if b == nil {
			return nil // it is no bucket any more
		}
		return b.ForEach(func(k, v []byte) error {
			b.Get(k)
			if v == nil {
				return deeper(b.Bucket(k))
			}
			return nil
		})
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return deeper(b) })
	})
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("fresh"))
			if err == nil {
				err = b.Put([]byte("k"), make([]byte, 9000))
			}
			return err
		})
	}
	return errors.Join(err, db.Close())
}

func TestCraftedPagesAreRefused(t *testing.T) {
	t.Parallel()
	good := crafted(t)
	if err := checkDatabase(good); err != nil {
		t.Fatalf("a good file: %v", err)
	}
	m, err := newestMeta(good)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[uint16]uint64{} // a page of each kind that is in use
	for id := uint64(2); id < m.high; id++ {
		if at := id * m.pageSize; order.Uint64(good[at:]) == id && order.Uint16(good[at+10:]) > 0 {
			kinds[order.Uint16(good[at+8:])] = at
		}
	}
	kinds[pageFreelist] = m.freelist * m.pageSize
	kinds[pageLeaf] = m.root * m.pageSize
	if len(kinds) < 3 {
		t.Fatalf("only kinds %v", kinds)
	}
	branch, leaf, free := kinds[pageBranch], kinds[pageLeaf], kinds[pageFreelist]
	for name, craft := range map[string]func(b []byte){
		"a circle":                func(b []byte) { order.PutUint64(b[branch+pageHeader+8:], order.Uint64(b[branch:])) },
		"a page used twice":       func(b []byte) { copy(b[branch+pageHeader+elementSize+8:][:8], b[branch+pageHeader+8:]) },
		"a page beyond the end":   func(b []byte) { order.PutUint64(b[branch+pageHeader+8:], 1<<40) },
		"a meta page in the tree": func(b []byte) { order.PutUint64(b[branch+pageHeader+8:], 1) },
		"no branches":             func(b []byte) { order.PutUint16(b[branch+10:], 0) },
		"many branches":           func(b []byte) { order.PutUint16(b[branch+10:], 0xffff) },
		"a huge overflow":         func(b []byte) { order.PutUint32(b[leaf+12:], 1<<31) },
		"an unknown kind":         func(b []byte) { order.PutUint16(b[leaf+8:], 0x40) },
		"many elements":           func(b []byte) { order.PutUint16(b[leaf+10:], 0xffff) },
		"a key outside":           func(b []byte) { order.PutUint32(b[leaf+pageHeader+4:], 1<<31) },
		"no key":                  func(b []byte) { order.PutUint32(b[leaf+pageHeader+8:], 0) },
		"a value outside":         func(b []byte) { order.PutUint32(b[leaf+pageHeader+12:], 1<<31) },
		"a cut bucket":            func(b []byte) { order.PutUint32(b[leaf+pageHeader+12:], 8) },
		"many free pages":         func(b []byte) { order.PutUint16(b[free+10:], 0xffff); order.PutUint64(b[free+pageHeader:], 1<<60) },
		"a used page is free":     func(b []byte) { order.PutUint64(b[free+pageHeader:], order.Uint64(b[leaf:])) },
		"no list of free pages":   func(b []byte) { order.PutUint16(b[free+8:], pageLeaf) },
		"a root beyond the end":   func(b []byte) { forMetas(b, func(m []byte) { order.PutUint64(m[16:], 1<<40) }) },
		"a root that is free":     func(b []byte) { forMetas(b, func(m []byte) { copy(m[16:24], b[free+pageHeader:]) }) },
		"a high mark too high":    func(b []byte) { forMetas(b, func(m []byte) { order.PutUint64(m[40:], 1<<50) }) },
		"another page size":       func(b []byte) { forMetas(b, func(m []byte) { order.PutUint32(m[8:], 8192) }) },
		"no first page size":      func(b []byte) { order.PutUint32(b[pageHeader+8:], 0) },
		"an odd first page size":  func(b []byte) { order.PutUint32(b[pageHeader+8:], 4352) },
		"no page size":            func(b []byte) { forMetas(b, func(m []byte) { order.PutUint32(m[8:], 0) }) },
	} {
		bad := bytes.Clone(good)
		craft(bad)
		resum(bad)
		if err := checkDatabase(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(filepath.Dir(path), RootKey{1}, Options{}); !errors.Is(err, ErrFormat) || !bytes.Contains([]byte(fmt.Sprint(err)), []byte(path)) {
			t.Errorf("%s: Open: %v, want ErrFormat and the file's name", name, err)
		}
	}
}

func forMetas(b []byte, change func(meta []byte)) {
	for _, at := range []int{0, 4096} {
		change(b[at+pageHeader:][:64])
	}
}

// FuzzPages changes a store's file: what the check accepts, bbolt must be able
// to read and write.
func FuzzPages(f *testing.F) {
	good := crafted(f)
	f.Add([]byte{0, 0x20, 0x10, 1})
	f.Add([]byte{0, 0x10, 0x20, 0xff, 0, 0, 0x20, 0xff})
	f.Fuzz(func(t *testing.T, patches []byte) {
		bad := bytes.Clone(good)
		for ; len(patches) >= 4; patches = patches[4:] { // where (24 bits), what
			bad[(int(patches[0])<<16|int(patches[1])<<8|int(patches[2]))%len(bad)] = patches[3]
		}
		resum(bad)
		if checkDatabase(bad) != nil {
			return
		}
		// A panic of bbolt's is a crash, and so is one that fills the memory.
		if err := walk(filepath.Join(t.TempDir(), "db"), bad); err != nil {
			t.Logf("refused later: %v", err)
		}
	})
}

func BenchmarkCheckPages(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, RootKey{1}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	p, key := object.NewID(), NewPartitionKey()
	err = s.Update(func(tx *Tx) error {
		err := tx.CreatePartition(p)
		for range 10_000 {
			o := &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassPrivateKey), Secret: make([]byte, 1200)}
			_, perr := tx.PutObject(p, key, o)
			err = errors.Join(err, perr)
		}
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, FileName))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := checkPages(f); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(dir, RootKey{1}, Options{})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
