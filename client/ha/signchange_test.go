package ha

import (
	"fmt"
	"testing"
)

// TestSignaturesDuringChanges: a key is renamed all the time, and so copied to
// the other members, while it signs: every signature verifies.
func TestSignaturesDuringChanges(t *testing.T) {
	t.Parallel()
	_, g, key := newGroup(t, 2)
	stop := signFor(t, key)
	for i := range 60 {
		must(t, g.SetAttributes(t.Context(), key.ID(), label(fmt.Sprint("name ", i))))
	}
	stop()
	must(t, g.ReadyAll(t.Context()))
}
