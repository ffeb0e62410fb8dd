// Package config reads the configuration of a gateway: one XML tree at the
// paths that PAN-OS administrators know, from text to a typed Snapshot.
//
//	text → Decode → tree → Validate against the schema → Snapshot
//
// One table, the schema, says which elements exist, what their values are, what
// an absent one means, and whether the gateway obeys them. What the table does
// not know is refused by path with the nearest known name; what it knows and
// nothing obeys yet is refused as "not supported yet": nothing is kept in
// silence. docs/configuration.md is written from the same table.
//
// A program that runs a gateway calls Load, or Compile of a tree that it has. A
// program that writes a configuration sets values by path on a Builder, which
// encodes them. The data plane sees the Snapshot alone, never the tree.
//
// Administrators change trees by Apply, one Edit after another, and read them by
// Select. A tree is never written to once it is given away: an edit makes
// another one, which shares what did not change. Diff tells two apart, Mask hides
// secrets, Lookup shows the schema to a command line.
package config

//go:generate go test -run ^TestManual$ -update

import (
	"fmt"
	"io"
	"os"
	"time"
)

// The places at which a device's and its virtual system's parts begin. The
// names in them are the only ones: PAN-OS clients insert them.
const (
	DevicePath = "/config/devices/entry[@name='localhost.localdomain']"
	VsysPath   = DevicePath + "/vsys/entry[@name='vsys1']"
	SharedPath = "/config/shared"
)

// Load reads a configuration file and makes its Snapshot. An error about what
// the file says is Problems, each with the file and line; any other is of the
// file system. Warnings are of things that are allowed and worth saying.
func Load(path string) (*Snapshot, []Warning, error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	snapshot, warnings, problems := parse(data, time.Now())
	for i := range warnings {
		warnings[i].File = path
	}
	if len(problems) > 0 {
		for i := range problems {
			problems[i].File = path
		}
		return nil, warnings, problems
	}
	return snapshot, warnings, nil
}

// Parse makes the Snapshot of a configuration's text. An error is Problems.
func Parse(data []byte) (*Snapshot, []Warning, error) {
	snapshot, warnings, problems := parse(data, time.Now())
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return snapshot, warnings, nil
}

// read returns a file's bytes, at most one more than a configuration may have:
// Decode then refuses it by its size, and no file exhausts the memory.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Compile makes the Snapshot of a tree at a time: it holds the tree against the
// schema, and its parts against one another. An error is Problems, all that
// could be found. The Snapshot shares nothing with the tree that could change.
func Compile(root *Node, now time.Time) (*Snapshot, []Warning, error) {
	snapshot, warnings, problems := compile(root, now)
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return snapshot, warnings, nil
}

func parse(data []byte, now time.Time) (*Snapshot, []Warning, Problems) {
	root, problems := decode(data)
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return compile(root, now)
}

func compile(root *Node, now time.Time) (*Snapshot, []Warning, Problems) {
	if problems := validate(root); len(problems) > 0 {
		return nil, nil, problems
	}
	snapshot := newSnapshot(root)
	warnings, problems := check(snapshot, root, now)
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return snapshot, warnings, nil
}
