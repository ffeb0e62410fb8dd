package object

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// The words of replication as bytes, each in one way: on the wire, in records
// and under signatures alike. Integers are big-endian, text is its length
// (uint16) and UTF-8, a list its length (uint16) and its items.

// Limits of replication's messages.
const (
	MaxMemberName = 64  // bytes, of a member and of a pinned HSM
	MaxAddress    = 260 // a host name, a colon and a port
	MaxSerial     = 64
	MaxPeers      = 64   // of a partition
	MaxClone      = 1024 // objects of one clone
	MaxChanges    = 1024 // in one page

	MaxOffer   = 4 << 10   // bytes
	MaxPackage = 768 << 10 // bytes; with its frame and what is beside it less than 1 MiB
)

// Compare orders peers by HSM and serial number, as lists of them are.
func (p Peer) Compare(other Peer) int {
	return cmp.Or(bytes.Compare(p.HSM[:], other.HSM[:]), cmp.Compare(p.Serial, other.Serial))
}

// Append appends the stamp's encoding: count (uint64), replica.
func (s Stamp) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Count)
	return append(b, s.Replica[:]...)
}

// Append appends the vector's encoding: a list of replica, changes (uint64).
func (v Vector) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	for _, c := range v {
		b = append(b, c.Replica[:]...)
		b = binary.BigEndian.AppendUint64(b, c.Changes)
	}
	return b
}

// Check refuses a vector that is not as Vector says.
func (v Vector) Check() error {
	if len(v) > MaxVector {
		return fmt.Errorf("version vector has %d entries, at most %d", len(v), MaxVector)
	}
	for i, c := range v {
		if c.Changes == 0 {
			return fmt.Errorf("version vector: replica %v has no changes", c.Replica)
		}
		if i > 0 && bytes.Compare(c.Replica[:], v[i-1].Replica[:]) <= 0 {
			return fmt.Errorf("version vector: replica %v is out of order or doubled", c.Replica)
		}
	}
	return nil
}

// Append appends the record's encoding: ID, label, serial number, epoch
// (uint64), and of each member serial number, HSM, name and address.
func (g Group) Append(b []byte) []byte {
	b = append(b, g.ID[:]...)
	b = appendText(b, g.Label)
	b = appendText(b, g.Serial)
	b = binary.BigEndian.AppendUint64(b, g.Epoch)
	b = binary.BigEndian.AppendUint16(b, uint16(len(g.Members)))
	for _, m := range g.Members {
		b = appendText(b, m.Serial)
		b = append(b, m.HSM[:]...)
		b = appendText(b, m.Name)
		b = appendText(b, m.Address)
	}
	return b
}

// Check refuses a record that is no group's: the error, ErrArgumentsBad, names
// the field. The zero Group, which is no group, is refused too.
func (g Group) Check() error {
	bad := func(format string, args ...any) error {
		return Errorf(ErrArgumentsBad, "group record: "+format, args...)
	}
	switch {
	case g.ID == ID{}:
		return bad("it has no ID")
	case g.Epoch == 0:
		return bad("its epoch is 0, expected 1 or more")
	case g.Label == "" || len(g.Label) > MaxGroupLabel || !printable(g.Label):
		return bad("its label is %q, expected 1 to %d printable ASCII characters", g.Label, MaxGroupLabel)
	case g.Serial == "" || len(g.Serial) > MaxSerial || !printable(g.Serial):
		return bad("its serial number is %q, expected 1 to %d printable ASCII characters", g.Serial, MaxSerial)
	case len(g.Members) < MinMembers || len(g.Members) > MaxMembers:
		return bad("it has %d members, expected %d to %d", len(g.Members), MinMembers, MaxMembers)
	}
	for i, m := range g.Members {
		switch {
		case m.HSM == HSMID{}:
			return bad("member %d (%q) names no HSM", i+1, m.Name)
		case m.Serial == "" || len(m.Serial) > MaxSerial || !printable(m.Serial):
			return bad("member %d has serial number %q, expected 1 to %d printable ASCII characters", i+1, m.Serial, MaxSerial)
		case m.Name == "" || len(m.Name) > MaxMemberName || !printable(m.Name):
			return bad("member %d has name %q, expected 1 to %d printable ASCII characters", i+1, m.Name, MaxMemberName)
		case len(m.Address) > MaxAddress || !printable(m.Address):
			return bad("member %q has address %q, expected at most %d printable ASCII characters", m.Name, m.Address, MaxAddress)
		}
		for _, other := range g.Members[:i] {
			if m.Serial == other.Serial && m.HSM == other.HSM {
				return bad("members %q and %q are the same partition (serial number %s)", other.Name, m.Name, m.Serial)
			}
			if m.Name == other.Name {
				return bad("two members are called %q", m.Name)
			}
		}
	}
	return nil
}

// printable reports whether s is ASCII from the space to the tilde.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// DecodeStamp reads a stamp from the front of b and returns the rest.
func DecodeStamp(b []byte) (Stamp, []byte, error) {
	p := parts{b: b}
	s := p.stamp()
	return s, p.b, p.err
}

// DecodeVector reads a vector from the front of b and returns the rest. It
// refuses what Check does.
func DecodeVector(b []byte) (Vector, []byte, error) {
	p := parts{b: b}
	v := p.vector()
	return v, p.b, p.err
}

// DecodeGroup reads a record from the front of b and returns the rest. It
// refuses every encoding but that of Append, and a record with epoch 0 that is
// not zero throughout. Whether it is a group's, Check says.
func DecodeGroup(b []byte) (Group, []byte, error) {
	p := parts{b: b}
	g := p.group()
	if p.err != nil {
		return Group{}, nil, p.err
	}
	return g, p.b, nil
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

var errShort = errors.New("ends early")

// parts takes values off the front of b. Its first error stays, and what is
// taken after it is zero.
type parts struct {
	b   []byte
	err error
}

func (p *parts) fail(err error) {
	if p.err == nil {
		p.err, p.b = err, nil
	}
}

func (p *parts) take(n int) []byte {
	if len(p.b) < n {
		p.fail(errShort)
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parts) uint16() uint16 {
	if v := p.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (p *parts) uint64() uint64 {
	if v := p.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (p *parts) text(what string, limit int) string {
	n := int(p.uint16())
	if n > limit {
		p.fail(fmt.Errorf("%s has %d bytes, at most %d", what, n, limit))
		return ""
	}
	v := p.take(n)
	if !utf8.Valid(v) {
		p.fail(fmt.Errorf("%s is not UTF-8", what))
		return ""
	}
	return string(v)
}

// count reads a list's length.
func (p *parts) count(what string, limit int) int {
	n := int(p.uint16())
	if n > limit {
		p.fail(fmt.Errorf("%d %s, at most %d", n, what, limit))
		return 0
	}
	return n
}

func (p *parts) stamp() (s Stamp) {
	s.Count = p.uint64()
	copy(s.Replica[:], p.take(len(s.Replica)))
	return s
}

func (p *parts) vector() Vector {
	n := p.count("entries of a version vector", MaxVector)
	if n == 0 {
		return nil
	}
	const size = len(ReplicaID{}) + 8
	if len(p.b) < n*size {
		p.fail(errShort)
		return nil
	}
	v := make(Vector, n)
	for i := range v {
		copy(v[i].Replica[:], p.take(len(v[i].Replica)))
		v[i].Changes = p.uint64()
	}
	if err := v.Check(); err != nil {
		p.fail(err)
		return nil
	}
	return v
}

func (p *parts) group() Group {
	var g Group
	copy(g.ID[:], p.take(len(g.ID)))
	g.Label, g.Serial = p.text("label", MaxGroupLabel), p.text("serial number", MaxSerial)
	g.Epoch = p.uint64()
	for range p.count("members", MaxMembers) {
		var m Member
		m.Serial = p.text("member's serial number", MaxSerial)
		copy(m.HSM[:], p.take(len(m.HSM)))
		m.Name, m.Address = p.text("member's name", MaxMemberName), p.text("member's address", MaxAddress)
		if p.err != nil {
			return Group{}
		}
		g.Members = append(g.Members, m)
	}
	if g.Epoch == 0 && (g.ID != ID{} || g.Label != "" || g.Serial != "" || g.Members != nil) {
		p.fail(errors.New("group record has epoch 0, and is not empty"))
	}
	return g
}
