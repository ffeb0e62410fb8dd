package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"
)

// bbolt trusts its pages: one that it did not write can have it read outside
// of the file, walk in circles or fill the memory, which no recover catches. So
// before it gets to see a file, every page that it will ever read is looked at
// here: where it is, that nothing points outside of it, that keys are in order,
// and that each page is used once. What the pages say is not trusted for that;
// the seals and digests are for it.
//
// The layout is bbolt's version 2, in the byte order of the machines that we
// run on: page header (ID uint64, flags uint16, count uint16, overflow uint32),
// elements of 16 bytes behind it, and their keys and values behind those.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageBranch, pageLeaf, pageFreelist = 0x01, 0x02, 0x10

	pageHeader    = 16
	elementSize   = 16
	bucketHeader  = 16
	elementBucket = 0x01
	noFreelist    = 1<<64 - 1
	maxPageDepth  = 64
)

var order = binary.LittleEndian

// pages is a file whose pages are being looked at.
type pages struct {
	data []byte
	size uint64 // of a page
	used []bool // by page: in the tree, in the freelist, or free
}

// checkPages looks at a database's file; an empty one is a new one. The error
// matches ErrFormat.
func checkPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping the file: %w", err)
	}
	err = guard(func() error {
		if err := checkDatabase(data); err != nil {
			return fmt.Errorf("%w: its pages are damaged: %w; restore it from a backup", ErrFormat, err)
		}
		return nil
	})
	return errors.Join(err, unix.Munmap(data))
}

var errMeta = errors.New("its first two pages do not say what it is")

// meta is what is used of bbolt's meta page.
type meta struct {
	pageSize             uint64
	root, freelist, high uint64
	txid                 uint64
}

func checkDatabase(data []byte) error {
	m, err := newestMeta(data)
	if err != nil {
		return err
	}
	if m.high < 2 || m.high > uint64(len(data))/m.pageSize {
		return fmt.Errorf("it has %d bytes, and should have %d pages of %d", len(data), m.high, m.pageSize)
	}
	p := &pages{data: data, size: m.pageSize, used: make([]bool, m.high)}
	p.used[0], p.used[1] = true, true
	if err := p.tree(m.root, nil, nil, 0, true); err != nil {
		return err
	}
	if m.freelist == noFreelist {
		return nil
	}
	return p.freelist(m.freelist)
}

// newestMeta reads the meta that bbolt would choose: it takes the page size of
// the first that is whole, and of the two the one that was written last. What
// is whole for bbolt and still not what it writes is refused, not passed over.
func newestMeta(data []byte) (meta, error) {
	first, firstWhole := readMeta(data, 0)
	size := first.pageSize
	for at := uint64(1 << 10); !firstWhole && size == 0 && at <= 1<<24; at <<= 1 {
		if m, whole := readMeta(data, at); whole {
			if m.pageSize != at {
				return meta{}, errMeta
			}
			size = at
		}
	}
	if size < 1<<10 || size > 1<<24 || size&(size-1) != 0 {
		return meta{}, errMeta
	}
	second, secondWhole := readMeta(data, size)
	if secondWhole && second.pageSize != size {
		return meta{}, errMeta
	}
	if secondWhole && (!firstWhole || second.txid > first.txid) {
		return second, nil
	}
	return first, nil
}

// readMeta reports whether a meta is whole by bbolt's measure; it returns the
// zero meta where not.
func readMeta(data []byte, at uint64) (meta, bool) {
	const metaSize = 64
	if at+pageHeader+metaSize > uint64(len(data)) {
		return meta{}, false
	}
	b := data[at+pageHeader:][:metaSize]
	sum := fnv.New64a()
	sum.Write(b[:56])
	if order.Uint32(b) != boltMagic || order.Uint32(b[4:]) != boltVersion || order.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, false
	}
	return meta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), high: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}, true
}

// page returns a page with those that it flows over into, once.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= uint64(len(p.used)) {
		return nil, fmt.Errorf("page %d is not there", id)
	}
	start := id * p.size
	count := uint64(order.Uint32(p.data[start+12:])) + 1
	if order.Uint64(p.data[start:]) != id || count > uint64(len(p.used))-id {
		return nil, fmt.Errorf("page %d is another one, or goes beyond the end", id)
	}
	for i := id; i < id+count; i++ {
		if err := p.use(i); err != nil {
			return nil, err
		}
	}
	return p.data[start : start+count*p.size], nil
}

func (p *pages) use(id uint64) error {
	if id < 2 || id >= uint64(len(p.used)) || p.used[id] {
		return fmt.Errorf("page %d is used twice, or is not there", id)
	}
	p.used[id] = true
	return nil
}

// tree looks at a page of a tree, and at those below it. Its keys are from low
// on and below high, nil for no bound.
func (p *pages) tree(id uint64, low, high []byte, depth int, root bool) error {
	page, err := p.page(id)
	if err != nil {
		return err
	}
	if depth > maxPageDepth {
		return errors.New("a tree is too deep")
	}
	switch order.Uint16(page[8:]) {
	case pageLeaf:
		return p.leaf(page, id, low, high, depth, root)
	case pageBranch:
		return p.branch(page, id, low, high, depth)
	}
	return fmt.Errorf("page %d is of no known kind", id)
}

// elements returns how many a page has; they fit into it.
func elements(page []byte, id uint64) (int, error) {
	count := int(order.Uint16(page[10:]))
	if pageHeader+count*elementSize > len(page) {
		return 0, fmt.Errorf("page %d has more elements than room", id)
	}
	return count, nil
}

// part returns size bytes of a page that lie pos behind its element i.
func part(page []byte, i int, pos, size uint64) ([]byte, bool) {
	from := uint64(pageHeader+i*elementSize) + pos
	if from+size > uint64(len(page)) { // of sums of uint32, which do not overflow
		return nil, false
	}
	return page[from : from+size], true
}

func (p *pages) branch(page []byte, id uint64, low, high []byte, depth int) error {
	count, err := elements(page, id)
	if err != nil {
		return err
	}
	if count == 0 {
		return fmt.Errorf("page %d branches nowhere", id)
	}
	key := func(i int) ([]byte, bool) {
		e := page[pageHeader+i*elementSize:]
		return part(page, i, uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])))
	}
	k, ok := key(0)
	for i := range count {
		next := high
		if i+1 < count && ok {
			next, ok = key(i + 1)
		}
		if !ok || !inOrder(k, low, next) {
			return fmt.Errorf("a key of page %d is out of its order or its page", id)
		}
		child := order.Uint64(page[pageHeader+i*elementSize+8:])
		if err := p.tree(child, k, next, depth+1, false); err != nil {
			return err
		}
		k, low = next, next
	}
	return nil
}

// inOrder reports whether a key is there, from low on and below high.
func inOrder(key, low, high []byte) bool {
	return len(key) > 0 && bytes.Compare(key, low) >= 0 && (high == nil || bytes.Compare(key, high) < 0)
}

func (p *pages) leaf(page []byte, id uint64, low, high []byte, depth int, root bool) error {
	count, err := elements(page, id)
	if err != nil {
		return err
	}
	if count == 0 && !root {
		return fmt.Errorf("page %d is empty", id)
	}
	var before []byte
	for i := range count {
		e := page[pageHeader+i*elementSize:]
		flags, pos, size := order.Uint32(e), uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:]))
		key, ok := part(page, i, pos, size)
		value, fits := part(page, i, pos+size, uint64(order.Uint32(e[12:])))
		if !ok || !fits || flags > elementBucket || !inOrder(key, low, high) || bytes.Compare(before, key) >= 0 {
			return fmt.Errorf("a key or value of page %d is out of its order or its page", id)
		}
		before = key
		if flags == 0 {
			continue
		}
		if err := p.bucket(value, id, depth); err != nil {
			return err
		}
	}
	return nil
}

// bucket looks at a bucket's value: the page of its root (uint64), a sequence
// (uint64), and where that page is 0 a leaf page of the bucket's own.
func (p *pages) bucket(value []byte, id uint64, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("a bucket in page %d is cut", id)
	}
	if root := order.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, depth+1, true)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != pageLeaf || depth > maxPageDepth {
		return fmt.Errorf("a bucket in page %d is malformed", id)
	}
	return p.leaf(inline, id, nil, nil, depth+1, true)
}

func (p *pages) freelist(id uint64) error {
	page, err := p.page(id)
	if err != nil {
		return err
	}
	ids, count := page[pageHeader:], uint64(order.Uint16(page[10:]))
	if count == 0xFFFF { // the number is in front, then
		count, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(page[8:]) != pageFreelist || count > uint64(len(ids))/8 {
		return errors.New("the list of free pages is malformed")
	}
	for i := range count {
		if err := p.use(order.Uint64(ids[8*i:])); err != nil {
			return err
		}
	}
	return nil
}
