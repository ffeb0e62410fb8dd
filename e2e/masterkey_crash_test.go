package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/config"
	"moongate/internal/gw/daemon"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// soak is set by `make soak`, which takes its time.
var soak = os.Getenv("MOONGATE_SOAK") != ""

// masterKeyKills is how often TestMasterKeySurvivesKill9 kills the gateway:
// while the master key, made at random, moves to the HSM and back and the
// wrapping key is rotated; and while other master keys are given, which takes
// seconds each, since they are stretched.
func masterKeyKills() (moving, changing int) {
	if soak {
		return 100, 100
	}
	return 30, 4
}

// TestMasterKeySurvivesKill9 kills a gateway at random moments of changes of the
// master key, its moves to the HSM and back, and rotations of its wrapping key,
// while handshakes and software keys need the gateway. What it left is opened by
// another process before each start, and by the gateway behind it: every secret
// can be decrypted.
func TestMasterKeySurvivesKill9(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"*.fresh.test"}))
	s := start(t, ca, world.GatewaySettings{Allowed: []string{origin.Address}})
	c := &masterKeyCrashes{t: t, s: s, api: newXMLAPI(t, s.gateway), origin: origin.Address, did: map[string]int{}}
	c.wrapper = keys.Network(s.dialHSM(t)).(vault.Wrapper)
	must(t, softKey(t.Context(), c.api, "running"))
	must(t, c.api.commit(t.Context(), ""))
	must(t, softKey(t.Context(), c.api, "candidate"))
	before, err := vault.PropertiesIn(daemon.In(s.gateway.Dir).Vault())
	must(t, err)
	c.id = before.ID

	began := time.Now()
	moving, changing := masterKeyKills()
	for life := range moving + changing {
		c.live(life >= moving, life < moving || life%2 == 0)
		c.atRest()
		must(t, s.gateway.Start(t.Context()))
		for _, name := range []string{"running", "candidate"} {
			eventually(t, returnsWithin, func() error { return signs(t.Context(), c.api, name) })
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d kills in %v: acknowledged %v; %d handshakes meanwhile", moving+changing, time.Since(began).Round(time.Second), c.did, c.handshakes.Load())
	if c.did["moved"] < moving/2 || c.did["rotated"] < moving/4 || c.did["changed"] < changing/2 {
		t.Errorf("only %v were acknowledged: the test proves little", c.did)
	}
	if c.handshakes.Load() < int64(moving) {
		t.Errorf("only %d handshakes were made: there was no traffic", c.handshakes.Load())
	}
}

// masterKeyCrashes is a gateway whose master key changes, and what it said was
// done.
type masterKeyCrashes struct {
	t       *testing.T
	s       *setting
	api     *xmlAPI
	origin  string
	wrapper vault.Wrapper // of the partition that the gateway uses

	handshakes atomic.Int64

	// Of one life at a time, in turn.
	current, asked string // master keys: the one in force, the one under way
	id             string // of the master key in force
	numbered       int
	did            map[string]int
}

// live changes the master key until it kills the gateway: at any moment, or at
// any after the first change of this life.
func (c *masterKeyCrashes) live(changing, behind bool) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var traffic sync.WaitGroup
	traffic.Go(func() {
		for ctx.Err() == nil {
			if c.s.handshake(c.origin, fmt.Sprintf("h%d.fresh.test", mathrand.Int64())) == nil {
				c.handshakes.Add(1)
			}
		}
	})
	traffic.Go(func() {
		for ctx.Err() == nil {
			if err := signs(ctx, c.api, "running"); errors.Is(err, errRefused) {
				c.t.Errorf("a software key does not sign while the master key changes: %v", err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	first := make(chan struct{}) // closed by the first change that is done
	within := 60 * time.Millisecond
	if changing {
		within = 3 * time.Second
	}
	var once sync.Once
	var administrator sync.WaitGroup
	administrator.Go(func() {
		defer once.Do(func() { close(first) })
		for ctx.Err() == nil {
			if err := c.change(ctx, changing); errors.Is(err, errRefused) {
				c.t.Error(err)
				return
			} else if err != nil {
				return // killed before the answer: the outcome is unknown
			}
			once.Do(func() { close(first) })
		}
	})
	if behind {
		<-first
	}
	time.Sleep(time.Duration(mathrand.Int64N(int64(within))))
	c.s.gateway.Process().Kill9()
	cancel()
	administrator.Wait()
	traffic.Wait()
}

// change has the gateway do one thing.
func (c *masterKeyCrashes) change(ctx context.Context, changing bool) error {
	place := []string{"yes", "no"}[mathrand.IntN(2)]
	args := []string{"on-hsm", place}
	if c.current != "" {
		args = append(args, "current-master-key", c.current)
	}
	what := "moved"
	switch {
	case changing:
		c.numbered++
		c.asked = fmt.Sprintf("the master key number %d", c.numbered)
		args, what = append(args, "new-master-key", c.asked, "lifetime", "24"), "changed"
	case mathrand.IntN(2) == 0:
		if _, err := rotate(ctx, c.api); err != nil {
			return err
		}
		c.did["rotated"]++
		return nil
	}
	if _, err := masterKey(ctx, c.api, args...); err != nil {
		return err
	}
	c.did[what]++
	if !changing {
		return nil
	}
	p, err := vault.PropertiesIn(daemon.In(c.s.gateway.Dir).Vault())
	c.id, c.current = p.ID, c.asked
	return err
}

// atRest opens what the killed process left: the vault by its own means or the
// HSM's, every secret of candidate and running configuration by the vault.
func (c *masterKeyCrashes) atRest() {
	c.t.Helper()
	files := daemon.In(c.s.gateway.Dir)
	v, err := vault.Open(files.Vault(), vault.Options{ReadOnly: true, Wrapper: c.wrapper})
	must(c.t, err)
	defer v.Close()
	must(c.t, v.Unlock(c.t.Context()))
	// Another key is in force: it is the one that was under way.
	if id := v.Properties().ID; id != c.id {
		c.id, c.current = id, c.asked
	}
	root, version, err := revision.ReadRunning(files.Revisions())
	must(c.t, err)
	snapshot, _, err := config.Compile(root, time.Now())
	must(c.t, err)
	opened := 0
	for _, certificate := range snapshot.Certificates {
		if certificate.PrivateKey == "" {
			continue
		}
		der, err := v.Open("private-key", certificate.PrivateKey)
		if err == nil {
			_, err = x509.ParsePKCS8PrivateKey(der)
		}
		if err != nil {
			c.t.Errorf("version %d, %s: %v", version.Number, certificate.Name, err)
		}
		opened++
	}
	if opened == 0 {
		c.t.Errorf("version %d has no secret to open", version.Number)
	}
	if key := "the master key number"; strings.Contains(c.s.gateway.Log(), key) {
		c.t.Errorf("the gateway's log says %q", key)
	}
}
