package store

import (
	"bytes"
	"encoding/binary"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// FuzzDecoders feeds each decoder of stored bytes the same input: it is
// refused, or decodes to what encodes to it again.
func FuzzDecoders(f *testing.F) {
	id, here := object.NewID(), object.NewID()
	at := place{kind: kindLive, sequence: 7, version: 2}
	f.Add(stored{place: at, attributes: []byte("sealed"), secret: []byte("sealed too")}.append(nil))
	f.Add(stored{place: place{kind: kindTombstone, sequence: 8, version: 3}, secret: []byte("time")}.append(nil))
	f.Add(appendRecord(nil, "id", []byte("value")))
	f.Add((&partition{sequence: 1, lastHandle: 2, members: 3, origin: here}).append(nil, here))
	f.Add((&partition{sequence: 1, lastHandle: 2, members: 3, origin: id}).append(nil, here))
	f.Add(stored{place: place{kind: kindRestored, sequence: 9, version: 4}, secret: []byte("all")}.append(nil))
	f.Add(appendRestored(stored{place: at, attributes: []byte("sealed"), secret: []byte("sealed too")}))
	f.Add(header{id: id, created: 1}.append(nil))
	f.Add((&partition{sequence: 1, lastHandle: 2, members: 3, origin: here, replica: object.ReplicaID{1}}).append(nil, here))
	f.Add(object.Defaults(object.ClassPrivateKey).Append(number(5)))
	f.Add(replica.First(object.ReplicaID{1}).Append(object.Defaults(object.ClassPrivateKey).Append(number(5))))
	f.Add(append(number(7), appendEntry(nil, id, at)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		same := func(what string, out []byte, err error) {
			if err == nil && !bytes.Equal(in, out) {
				t.Errorf("%s: %x decodes to what encodes to %x", what, in, out)
			}
		}
		st, err := decodeStored(in)
		same("object", st.append(nil), err)
		name, value, err := decodeRecord(in)
		same("record", appendRecord(nil, name, value), err)
		if p, err := decodePartition(in, here); err == nil {
			same("partition", p.append(nil, here), nil)
		}
		inner, err := decodeRestored(in)
		same("restored object", appendRestored(inner), err)
		h, err := decodeHeader(in)
		same("header", h.append(nil), err)
		var o opened
		if err := o.decode(in); err == nil {
			out := o.template.Append(binary.BigEndian.AppendUint64(nil, o.handle))
			if len(o.history.Vector) > 0 {
				out = o.history.Append(out)
			}
			same("attributes", out, nil)
		}
		if len(in) >= 8 {
			id, at, err := decodeEntry(in[:8], in[8:])
			same("entry", append(number(at.sequence), appendEntry(nil, id, at)...), err)
		}
	})
}
