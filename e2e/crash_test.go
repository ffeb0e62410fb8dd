package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/e2e/world"
)

// TestAcknowledgedKeysSurviveKill9 kills the HSM at random moments while keys
// are made: every key whose making was answered is there afterwards and signs.
func TestAcknowledgedKeysSurviveKill9(t *testing.T) {
	t.Parallel()
	const kills = 8
	w := world.T(t)
	hsm := w.HSM()
	link := w.Register(hsm, "maker", w.Partition(hsm, "p"))
	config, err := link.Config(client.RoleCryptoOfficer)
	must(t, err)
	config.MaxBackoff = 200 * time.Millisecond
	c, err := client.Dial(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { c.Close() })

	var mu sync.Mutex
	acknowledged := map[client.ID]string{}
	ctx, cancel := context.WithCancel(t.Context())
	var makers sync.WaitGroup
	for maker := range 3 {
		makers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				label := fmt.Sprintf("key %d.%d", maker, i)
				pair, err := c.GenerateKeyPair(ctx, client.MechECKeyPairGen,
					client.NewTemplate(client.BytesAttr(client.AttrECParams, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})),
					client.NewTemplate(client.TextAttr(client.AttrLabel, label)))
				if err != nil {
					continue // killed before the answer: the outcome is unknown
				}
				mu.Lock()
				acknowledged[pair.Private] = label
				mu.Unlock()
			}
		})
	}
	made := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range kills {
		// Keys are being made, in this life of the HSM too; then a random
		// moment is the point.
		for before, limit := made(), time.Now().Add(30*time.Second); made() == before && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(mathrand.IntN(100)) * time.Millisecond)
		hsm.Kill9()
		must(t, hsm.Restart(t.Context()))
	}
	cancel()
	makers.Wait()

	if len(acknowledged) < kills {
		t.Fatalf("only %d keys were made in %d lives of the HSM: the test proves nothing", len(acknowledged), kills)
	}
	digest := sha256.Sum256([]byte("alive"))
	for id, label := range acknowledged {
		key, err := c.Key(t.Context(), id)
		if err != nil {
			t.Errorf("acknowledged %s is gone: %v", label, err)
			continue
		}
		signature, err := key.WithContext(t.Context()).Sign(rand.Reader, digest[:], cryptoSHA256)
		if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) || key.Label() != label {
			t.Errorf("acknowledged %s does not sign: %v", label, err)
		}
	}
	// The audit log is whole after every crash, and knows each of the keys.
	out, err := hsm.Command(t.Context(), "", "audit", "verify")
	if err != nil {
		t.Errorf("the audit log does not verify: %v\n%s", err, out)
	}
	records, err := hsm.Audit(t.Context(), 10_000)
	must(t, err)
	recorded := map[string]bool{}
	for _, r := range records {
		if r.Action == "key.generate" && r.Outcome == "ok" {
			recorded[r.Object] = true
		}
	}
	for id, label := range acknowledged {
		if !recorded[id.String()] {
			t.Errorf("acknowledged %s is not in the audit log", label)
		}
	}
	t.Logf("%d acknowledged keys survived %d kills", len(acknowledged), kills)
}
