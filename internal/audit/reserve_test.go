package audit

import (
	"io/fs"
	"path/filepath"
	"testing"
)

// heldDisk announces each file that it is to replace, and waits to be let.
type heldDisk struct {
	disk
	writing chan struct{}
	let     chan struct{}
}

func (d heldDisk) writeFile(path string, data []byte, perm fs.FileMode) error {
	d.writing <- struct{}{}
	<-d.let
	return d.disk.writeFile(path, data, perm)
}

// TestReservingHoldsNobodyUp: while the disk takes its time over a further
// reservation, writers go on within the one that there is.
func TestReservingHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	d := heldDisk{osDisk{}, make(chan struct{}), make(chan struct{})}
	r := &reservation{path: filepath.Join(t.TempDir(), reservedName), disk: d, block: minReserve}
	first := make(chan error)
	go func() { first <- r.cover(1) }()
	<-d.writing
	d.let <- struct{}{}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	prepared := make(chan error)
	go func() { prepared <- r.prepare(minReserve - 1) }()
	<-d.writing
	if err := r.cover(minReserve); err != nil { // hangs where it waits for the disk
		t.Fatal(err)
	}
	d.let <- struct{}{}
	if err := <-prepared; err != nil || r.limit.Load() < 2*minReserve {
		t.Errorf("reserved up to %d, %v", r.limit.Load(), err)
	}
}
