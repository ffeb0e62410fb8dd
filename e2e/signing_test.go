package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"moongate/client"
)

// signing is a steady load of signatures, each of which is checked.
type signing struct {
	t       *testing.T
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu    sync.Mutex
	phase *signed // of calls that begin now; guarded by mu
}

// signed is what became of the calls of a phase.
type signed struct {
	name    string
	begun   time.Time
	calls   int
	longest time.Duration
	errs    []error
}

// signatureTime bounds one signature of the load.
const signatureTime = 20 * time.Second

// sign begins the load: each worker uses each key in turn, with a pause after
// each call.
func sign(t *testing.T, keys []client.Key, workers int, pause time.Duration) *signing {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &signing{t: t, cancel: cancel, phase: &signed{name: "before", begun: time.Now()}}
	for w := range workers {
		s.workers.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				s.once(keys[i%len(keys)])
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	t.Cleanup(s.end)
	return s
}

func (s *signing) once(key client.Key) {
	s.mu.Lock()
	phase := s.phase
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), signatureTime)
	defer cancel()
	began := time.Now()
	err := signOnce(ctx, key)
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	phase.calls++
	phase.longest = max(phase.longest, took)
	if err != nil {
		phase.errs = append(phase.errs, fmt.Errorf("after %v: %w", took.Round(time.Millisecond), err))
	}
}

// signOnce signs with a key and checks the signature.
func signOnce(ctx context.Context, key client.Key) error {
	var message [16]byte
	rand.Read(message[:])
	digest := sha256.Sum256(message[:])
	signature, err := key.WithContext(ctx).Sign(rand.Reader, digest[:], cryptoSHA256)
	if err != nil {
		return err
	}
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest[:], signature) {
			return fmt.Errorf("a signature of key %s is wrong", key.ID())
		}
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, cryptoSHA256, digest[:], signature)
	default:
		return fmt.Errorf("key %s is a %T", key.ID(), public)
	}
	return nil
}

// next ends a phase, and returns it: calls that are under way count for it when
// they end.
func (s *signing) next(name string) *signed {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.phase
	s.phase = &signed{name: name, begun: time.Now()}
	return before
}

// more waits for so many more calls of the present phase.
func (s *signing) more(n int) {
	s.t.Helper()
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.phase.calls
	}
	target := count() + n
	eventually(s.t, time.Minute, func() error {
		if got := count(); got < target {
			return fmt.Errorf("the load stands still: %d calls, %d awaited", got, target)
		}
		return nil
	})
}

// end ends the load.
func (s *signing) end() {
	s.cancel()
	s.workers.Wait()
}

// report tells what became of a phase, after the load has ended.
func (s *signing) report(p *signed) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Logf("%-28s %5d signatures, %d errors, the longest took %v", p.name, p.calls, len(p.errs), p.longest.Round(time.Millisecond))
}

// none fails the test where a phase had errors.
func (s *signing) none(p *signed) {
	s.t.Helper()
	s.report(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, err := range p.errs {
		if i == 5 {
			s.t.Errorf("%s: and %d more errors", p.name, len(p.errs)-i)
			break
		}
		s.t.Errorf("%s: the application saw: %v", p.name, err)
	}
}

// eventually tries until what is tried succeeds.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Since(begin) > limit {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}
