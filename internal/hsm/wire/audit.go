package wire

import (
	"encoding/binary"

	"moongate/internal/hsm/object"
)

// Messages about the HSM's audit log. They need no session.

func appendCheckpoint(b []byte, c object.AuditCheckpoint) []byte {
	b = appendBytes(b, c.Note)
	return appendText(b, c.Verifier)
}

func (d *decoder) checkpoint() object.AuditCheckpoint {
	return object.AuditCheckpoint{
		Note:     d.bytes("checkpoint", MaxNote),
		Verifier: d.text("verifier key", MaxVerifier),
	}
}

// CheckpointAnswer is the log's newest signed checkpoint.
type CheckpointAnswer struct {
	Checkpoint object.AuditCheckpoint
}

func (m *CheckpointAnswer) Append(b []byte) []byte { return appendCheckpoint(b, m.Checkpoint) }

func (m *CheckpointAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = CheckpointAnswer{Checkpoint: d.checkpoint()}
	return d.end("AuditCheckpoint answer")
}

// ProofRequest asks for the proof that the log continues the one of Size
// records.
type ProofRequest struct {
	Size uint64
}

func (m *ProofRequest) Append(b []byte) []byte { return binary.BigEndian.AppendUint64(b, m.Size) }

func (m *ProofRequest) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ProofRequest{Size: d.uint64()}
	return d.end("AuditProof request")
}

type ProofAnswer struct {
	Proof object.AuditProof
}

func (m *ProofAnswer) Append(b []byte) []byte {
	b = appendCheckpoint(b, m.Proof.Checkpoint)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Proof.Hashes)))
	for _, h := range m.Proof.Hashes {
		b = append(b, h[:]...)
	}
	return b
}

func (m *ProofAnswer) Decode(body []byte) error {
	d := decoder{b: body}
	*m = ProofAnswer{Proof: object.AuditProof{Checkpoint: d.checkpoint()}}
	for range d.count("hashes", MaxProof) {
		var h [32]byte
		copy(h[:], d.take(len(h)))
		m.Proof.Hashes = append(m.Proof.Hashes, h)
	}
	return d.end("AuditProof answer")
}
