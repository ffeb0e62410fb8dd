package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/hsm/wire"
)

// echo encrypts by giving back what it is given, a little later at times.
type echo struct{ server.Session }

func (echo) Encrypt(ctx context.Context, _ object.OperationID, _ object.ID, _ object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	if data[0]%8 == 0 {
		select {
		case <-time.After(time.Duration(data[1]) * 10 * time.Microsecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	return bytes.Clone(data), nil, nil
}

// TestAnswersAreTheirCallers: whatever callers give up, connections break and
// requests wait for room, an answer is that to the caller's own request.
func TestAnswersAreTheirCallers(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.wrap = func(s server.Session) server.Session { return echo{s} }
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	config.KeepAlive = time.Second
	config.MaxBackoff = time.Millisecond
	c := dial(t, config)
	end := time.Now().Add(testPatience)
	var counter, answered, given, lost atomic.Uint64
	goOn := func() bool { return answered.Load() < stressAnswers && time.Now().Before(end) }
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for goOn() {
				size := 16 + rand.IntN(100)
				if rand.IntN(10) == 0 {
					size = 4<<10 + rand.IntN(300<<10) // is large
				}
				data := make([]byte, size)
				binary.BigEndian.PutUint64(data[8:], counter.Add(1))
				data[0], data[1] = byte(rand.Uint32()), byte(rand.Uint32())
				ctx, cancel := context.WithTimeout(t.Context(), testPatience)
				if rand.IntN(4) == 0 {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				}
				if rand.IntN(2) == 0 {
					ctx = WithoutWaiting(ctx)
				}
				out, err := c.use(ctx, wire.OpEncrypt, ID{1}, Mechanism{Type: MechAESGCM}, data)
				cancel()
				switch {
				case err == nil && bytes.Equal(out, data):
					answered.Add(1)
				case err == nil:
					t.Errorf("%x is answered with %x", data[:16], out[:min(16, len(out))])
				case errors.Is(err, context.DeadlineExceeded), object.CodeOf(err) == ErrDeadline:
					given.Add(1)
				case Unavailable(err):
					lost.Add(1)
				default:
					t.Errorf("%v", err)
				}
			}
		})
	}
	for range 4 {
		callers.Go(func() {
			for goOn() {
				if err := c.Ping(t.Context()); err != nil && !Unavailable(err) {
					t.Errorf("Ping: %v", err)
				}
				if _, err := c.Find(t.Context(), nil, AttrLabel); err != nil && !Unavailable(err) {
					t.Errorf("Find: %v", err)
				}
			}
		})
	}
	callers.Go(func() {
		// The connection lives for some answers, however slow the machine.
		for next := uint64(20); goOn(); next = answered.Load() + rand.Uint64N(40) {
			for answered.Load() < next && goOn() {
				time.Sleep(time.Millisecond)
			}
			if rand.IntN(2) == 0 {
				cut()
			} else if err := c.Reset(t.Context()); err != nil && !Unavailable(err) {
				t.Errorf("Reset: %v", err)
			}
		}
	})
	callers.Wait()
	if answered.Load() < stressAnswers {
		t.Errorf("%d calls were answered", answered.Load())
	}
	t.Logf("%d answered, %d given up, %d lost", answered.Load(), given.Load(), lost.Load())
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for l := c.ready.Load(); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		free, turns := l.room.free, len(l.room.turns)
		n := len(l.waiting)
		l.mu.Unlock()
		if n == 0 && free == largeRoom && turns == 0 || l.broken() {
			break
		}
		if time.Now().After(end.Add(testPatience)) {
			t.Fatalf("at the end %d requests wait, %d bytes of room are free, %d take turns", n, free, turns)
		}
	}
}

const stressAnswers = 400
