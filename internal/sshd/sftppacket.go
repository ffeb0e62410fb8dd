package sshd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// SFTP version 3 (draft-ietf-secsh-filexfer-02): the types of its packets.
const (
	fxpInit     = 1
	fxpVersion  = 2
	fxpOpen     = 3
	fxpClose    = 4
	fxpRead     = 5
	fxpWrite    = 6
	fxpLstat    = 7
	fxpFstat    = 8
	fxpSetstat  = 9
	fxpFsetstat = 10
	fxpOpendir  = 11
	fxpReaddir  = 12
	fxpRemove   = 13
	fxpMkdir    = 14
	fxpRmdir    = 15
	fxpRealpath = 16
	fxpStat     = 17
	fxpRename   = 18
	fxpReadlink = 19
	fxpSymlink  = 20
	fxpStatus   = 101
	fxpHandle   = 102
	fxpData     = 103
	fxpName     = 104
	fxpAttrs    = 105
	fxpExtended = 200
)

// Codes of a status.
const (
	fxOK          = 0
	fxEOF         = 1
	fxNoSuchFile  = 2
	fxDenied      = 3
	fxFailure     = 4
	fxBadMessage  = 5
	fxUnsupported = 8
)

// Flags of open, and of attributes.
const (
	fxfRead     = 0x01
	fxfWrite    = 0x02
	fxfAppend   = 0x04
	fxfTruncate = 0x10
	fxfExcl     = 0x20

	attrSize        = 0x01
	attrOwner       = 0x02
	attrPermissions = 0x04
	attrTimes       = 0x08
	attrExtended    = 0x80000000
)

// maxPacket bounds a packet from the peer, in bytes: OpenSSH's own bound.
// maxSFTPRead is how much of a file one answer holds.
const (
	maxPacket   = 256 << 10
	maxSFTPRead = 64 << 10
)

var errPacket = errors.New("malformed packet")

// readPacket reads a packet: its type and its payload.
func readPacket(r io.Reader) (byte, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxPacket {
		return 0, nil, fmt.Errorf("%w: %d bytes, expected 1 to %d", errPacket, n, maxPacket)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	return body[0], body[1:], nil
}

// fields takes a packet apart; after the first failure everything is zero.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.rest) {
		f.bad, f.rest = true, nil
		return nil
	}
	part := f.rest[:n]
	f.rest = f.rest[n:]
	return part
}

func (f *fields) uint32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) bytes() []byte { return f.take(int(min(f.uint32(), maxPacket+1))) }

func (f *fields) string() string { return string(f.bytes()) }

// attributes passes over a file's attributes: nobody sets them here.
func (f *fields) attributes() {
	flags := f.uint32()
	if flags&attrSize != 0 {
		f.uint64()
	}
	if flags&attrOwner != 0 {
		f.uint64()
	}
	if flags&attrPermissions != 0 {
		f.uint32()
	}
	if flags&attrTimes != 0 {
		f.uint64()
	}
	if flags&attrExtended != 0 {
		for range min(f.uint32(), maxPacket/8) {
			f.bytes()
			f.bytes()
		}
	}
	if flags&^uint32(attrSize|attrOwner|attrPermissions|attrTimes|attrExtended) != 0 {
		f.bad = true
	}
}

// done reports whether the packet was well-formed and is at its end.
func (f *fields) done() bool { return !f.bad && len(f.rest) == 0 }

// packet is one that is being made.
type packet []byte

func newPacket(kind byte, id uint32) packet {
	return packet{0, 0, 0, 0, kind}.uint32(id)
}

func (p packet) uint32(n uint32) packet { return binary.BigEndian.AppendUint32(p, n) }
func (p packet) uint64(n uint64) packet { return binary.BigEndian.AppendUint64(p, n) }

func (p packet) string(s string) packet { return append(p.uint32(uint32(len(s))), s...) }

func (p packet) attributes(i Info) packet {
	at := uint32(max(0, i.Modified.Unix()))
	return p.uint32(attrSize | attrPermissions | attrTimes).uint64(uint64(i.Size)).uint32(i.mode()).uint32(at).uint32(at)
}

// bytes completes the packet with its length.
func (p packet) bytes() []byte {
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}
