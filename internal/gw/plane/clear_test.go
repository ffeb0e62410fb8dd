package plane

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// TestClearSessionsHolds: while the HSM is not back, new handshakes wait, those
// that wait too long fail with the cause, and those that need not wait so long
// go on. Flows that are not decrypted do not wait.
func TestClearSessionsHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.HoldBound = time.Second })
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "bank.example")}})
	s := w.snapshot(config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}})
	at := s.Forward[0].Listen
	w.apply(s)
	back := make(chan struct{})
	w.hsm.reset = func(ctx context.Context) error {
		w.hsm.SetAway(true)
		defer w.hsm.SetAway(false)
		<-back
		return nil
	}

	type end struct {
		cleared Cleared
		err     error
	}
	down := make(chan struct{})
	once := sync.OnceFunc(func() { close(down) })
	ended := make(chan end, 1)
	go func() {
		c, err := w.plane.ClearSessions(t.Context(), func(line string) {
			if strings.HasPrefix(line, "HSM sessions: down") {
				once()
			}
		})
		ended <- end{c, err}
	}()
	<-down
	if _, err := w.plane.ClearSessions(t.Context(), nil); err == nil {
		t.Error("sessions are cleared twice at a time")
	}
	handshakes := func(n int) *sync.WaitGroup {
		var group sync.WaitGroup
		for range n {
			group.Go(func() {
				if client, err := reach(t, at, "a.test:"+port, nil); err == nil {
					client.Close()
				}
			})
		}
		return &group
	}
	began := time.Now()
	handshakes(4).Wait()
	if waited := time.Since(began); waited < time.Second {
		t.Errorf("handshakes waited %v only", waited)
	}
	for range 4 {
		r := w.record()
		if r.FailureStage != flow.StageHSM || r.Bypass != "" {
			t.Errorf("record: %+v", r)
		}
		says(t, "the cause", r.FailureCause, "HSM sessions reset")
	}
	w.see(at, "bank.example:"+port, "Public Root")

	late := handshakes(3)
	for w.plane.table.Waiting() < 3 {
		time.Sleep(time.Millisecond)
	}
	close(back)
	late.Wait()
	got := <-ended
	must(t, got.err)
	if c := got.cleared; c.Refused != 4 || c.Waited != 7 || c.Sessions != 0 || !c.HSM.Ready || c.Down < time.Second {
		t.Errorf("cleared: %+v", c)
	}
	for range 3 {
		if r := w.record(); r.FailureStage != "" || r.ClientLeg == nil {
			t.Errorf("record: %+v", r)
		}
	}
}
