package admin

import (
	"testing"
	"time"
)

// TestHashesAtATime: who may ask for hashes cannot have many made at once, for
// each takes 64 MiB.
func TestHashesAtATime(t *testing.T) {
	for range cap(making) {
		making <- struct{}{}
	}
	made := make(chan error, 1)
	go func() {
		_, err := Hash([]byte(password))
		made <- err
	}()
	select {
	case <-made:
		t.Error("a hash was made beside as many as may be")
	case <-time.After(50 * time.Millisecond):
	}
	for range cap(making) {
		<-making
	}
	must(t, <-made)
}
