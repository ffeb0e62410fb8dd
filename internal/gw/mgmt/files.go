package mgmt

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"moongate/internal/gw/admin"
)

// Files that administrators bring: certificates, private keys, configurations,
// for commands to take by their names. They are in memory, each administrator's
// own, and for a while; a command that has taken what it wanted leaves them.

// MaxFile bounds a file in bytes, as the body of a request to the XML API is.
const MaxFile = 5 << 20

const (
	maxFiles   = 16        // of one administrator
	maxAllFile = 64 << 20  // of all, in bytes
	fileLife   = time.Hour // since it came
)

// File is one that an administrator brought.
type File struct {
	Name string
	Size int
	At   time.Time
}

type kept struct {
	File
	data []byte
}

// inbox is the files of all administrators. The zero value is empty.
type inbox struct {
	mu    sync.Mutex
	files map[string][]kept // by administrator, in the order of arrival; guarded by mu
}

// PutFile keeps a file of the caller's, in place of one of the same name. It
// keeps a copy, which is wiped after an hour.
func (m *Manager) PutFile(ctx context.Context, c Caller, name string, data []byte) error {
	if err := m.MayPutFile(c, name); err != nil {
		return err
	}
	if len(data) == 0 || len(data) > MaxFile {
		return refuse(CodeBadParameter, "file %s has %d bytes, expected 1 to %d", name, len(data), MaxFile)
	}
	return m.inbox.put(c.Name, kept{File{name, len(data), m.now()}, slices.Clone(data)})
}

// MayPutFile says why the caller may not bring a file of this name; nil where
// it may.
func (m *Manager) MayPutFile(c Caller, name string) error {
	if err := m.allow(c, admin.OpFiles, name); err != nil {
		return err
	}
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '/' || r == '\\' }) {
		return refuse(CodeBadParameter, "%q is no file's name here: expected 1 to 255 printable characters, no slash", name)
	}
	return nil
}

// BringsFiles reports whether the caller may bring files at all.
func (m *Manager) BringsFiles(c Caller) bool { return m.may(c, admin.OpFiles) }

// File returns a file that the caller brought; the caller clears it.
func (m *Manager) File(ctx context.Context, c Caller, name string) ([]byte, error) {
	if err := m.allow(c, admin.OpFiles, name); err != nil {
		return nil, err
	}
	data := m.inbox.get(c.Name, name, m.now())
	if data == nil {
		return nil, refuse(CodeNotPresent, "file %q: you brought none of that name within the last %v; copy it here first: scp %s %s@GATEWAY:", name, fileLife, name, c.Name)
	}
	return data, nil
}

// Files lists those that the caller brought, the newest last.
func (m *Manager) Files(ctx context.Context, c Caller) ([]File, error) {
	if err := m.allow(c, admin.OpFiles, "files"); err != nil {
		return nil, err
	}
	return m.inbox.list(c.Name, m.now()), nil
}

// DropFile forgets a file that the caller brought.
func (m *Manager) DropFile(ctx context.Context, c Caller, name string) error {
	if err := m.allow(c, admin.OpFiles, name); err != nil {
		return err
	}
	if !m.inbox.drop(c.Name, name) {
		return refuse(CodeNotPresent, "file %q: you brought none of that name", name)
	}
	return nil
}

func (b *inbox) put(who string, f kept) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(f.At)
	total := len(f.data)
	for _, files := range b.files {
		for _, other := range files {
			total += len(other.data)
		}
	}
	own := b.files[who]
	at := slices.IndexFunc(own, func(k kept) bool { return k.Name == f.Name })
	if at >= 0 {
		total -= len(own[at].data)
	}
	switch {
	case at < 0 && len(own) >= maxFiles:
		return refuse(CodeNotPossible, "file %s: you have %d files here already; delete one: delete file NAME", f.Name, len(own))
	case total > maxAllFile:
		return refuse(CodeNotPossible, "file %s: all administrators' files would have %d bytes, expected at most %d; delete some: delete file NAME", f.Name, total, maxAllFile)
	}
	if at >= 0 {
		clear(own[at].data)
		own = slices.Delete(own, at, at+1)
	}
	if b.files == nil {
		b.files = map[string][]kept{}
	}
	b.files[who] = append(own, f)
	return nil
}

func (b *inbox) get(who, name string, now time.Time) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	for _, f := range b.files[who] {
		if f.Name == name {
			return slices.Clone(f.data)
		}
	}
	return nil
}

func (b *inbox) list(who string, now time.Time) []File {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	var list []File
	for _, f := range b.files[who] {
		list = append(list, f.File)
	}
	slices.SortStableFunc(list, func(x, y File) int { return cmp.Compare(x.At.UnixNano(), y.At.UnixNano()) })
	return list
}

func (b *inbox) drop(who, name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.files[who]
	at := slices.IndexFunc(own, func(f kept) bool { return f.Name == name })
	if at < 0 {
		return false
	}
	clear(own[at].data)
	b.files[who] = slices.Delete(own, at, at+1)
	return true
}

// sweep wipes what has been here for too long.
func (b *inbox) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
}

// expire is sweep with mu held.
func (b *inbox) expire(now time.Time) {
	for who, files := range b.files {
		files = slices.DeleteFunc(files, func(f kept) bool {
			old := now.Sub(f.At) > fileLife
			if old {
				clear(f.data)
			}
			return old
		})
		if b.files[who] = files; len(files) == 0 {
			delete(b.files, who)
		}
	}
}
