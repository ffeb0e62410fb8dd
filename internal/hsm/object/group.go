package object

import "bytes"

// Supersedes reports whether of two records of one group g is the one that
// counts: that with the higher epoch, and with the same epoch the one whose
// encoding is greater. Nothing supersedes itself.
func (g Group) Supersedes(other Group) bool {
	if g.Epoch != other.Epoch {
		return g.Epoch > other.Epoch
	}
	return bytes.Compare(g.Append(nil), other.Append(nil)) > 0
}
