package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/e2e/world"
	"moongate/internal/gw/config"
	"moongate/internal/gw/daemon"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// kills is how often TestCommitsSurviveKill9 kills the gateway.
const kills = 100

// TestCommitsSurviveKill9 kills a gateway at random moments of edits, commits
// and the making of sealed keys, all at the same time. After each start the
// running configuration is whole and no older than the last commit that was
// acknowledged, the candidate has every acknowledged edit, and every secret of
// both can be decrypted.
func TestCommitsSurviveKill9(t *testing.T) {
	t.Parallel()
	g := world.T(t).Managed()
	c := &crashes{t: t, gateway: g, api: newXMLAPI(t, g), made: map[string]bool{}}
	must(t, c.edit(t.Context()))
	must(t, c.commit(t.Context()))
	began := time.Now()
	for range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var administrators sync.WaitGroup
		for _, does := range []func(context.Context) error{c.edit, c.commit, c.generate} {
			administrators.Go(func() {
				for ctx.Err() == nil {
					if err := does(ctx); errors.Is(err, errRefused) {
						t.Error(err)
						return
					} else if err != nil {
						return // killed before the answer: the outcome is unknown
					}
				}
			})
		}
		// From the first commit of this life on, any moment is the point.
		for before, limit := c.acknowledged(), time.Now().Add(30*time.Second); c.acknowledged() == before && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(mathrand.IntN(150)) * time.Millisecond)
		g.Process().Kill9()
		cancel()
		administrators.Wait()
		c.atRest()
		must(t, g.Start(t.Context()))
		c.check()
		if t.Failed() {
			break
		}
	}
	if c.commits < kills || len(c.made) < kills/4 {
		t.Errorf("only %d commits and %d keys were acknowledged in %d lives: the test proves little", c.commits, len(c.made), kills)
	}
	t.Logf("%d kills in %v: %d edits, %d commits, %d sealed keys acknowledged, of %d asked for",
		kills, time.Since(began).Round(time.Second), c.edited, c.commits, len(c.made), c.keys)
}

// crashes is what a gateway was asked for, and what it said was done. Numbers
// are those in the host name, which each edit raises.
type crashes struct {
	t       *testing.T
	gateway *world.Gateway
	api     *xmlAPI

	mu      sync.Mutex
	asked   int             // the highest number that an edit asked for; guarded by mu
	edited  int             // the highest that was acknowledged; guarded by mu
	running int             // the least that the running configuration has; guarded by mu
	commits int             // acknowledged; guarded by mu
	keys    int             // keys asked for; guarded by mu
	made    map[string]bool // certificates whose key is acknowledged; guarded by mu
	latest  string          // the newest of them; guarded by mu
}

// acknowledged is how many commits were.
func (c *crashes) acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// edit raises the host name's number.
func (c *crashes) edit(ctx context.Context) error {
	c.mu.Lock()
	c.asked++
	n := c.asked
	c.mu.Unlock()
	if err := c.api.set(ctx, systemPath, fmt.Sprintf("<hostname>gw-%d</hostname>", n)); err != nil {
		return err
	}
	c.mu.Lock()
	c.edited = n
	c.mu.Unlock()
	return nil
}

// commit commits what was edited by now, or later.
func (c *crashes) commit(ctx context.Context) error {
	c.mu.Lock()
	least := c.edited
	c.mu.Unlock()
	if err := c.api.commit(ctx, "<force></force>"); err != nil {
		return err
	}
	c.mu.Lock()
	c.running, c.commits = max(c.running, least), c.commits+1
	c.mu.Unlock()
	return nil
}

// generate makes a key in software, which is sealed.
func (c *crashes) generate(ctx context.Context) error {
	c.mu.Lock()
	c.keys++
	name := "key-" + strconv.Itoa(c.keys)
	c.mu.Unlock()
	_, err := c.api.op(ctx, "<request><certificate><generate><certificate-name>"+name+"</certificate-name><name>"+name+
		"</name><algorithm>ECDSA</algorithm></generate></certificate></request>")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.made[name], c.latest = true, name
	c.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond): // a few of a life are enough
	}
	return nil
}

// atRest checks the running configuration as the killed process left it, by
// what another process reads: it compiles, and its secrets open.
func (c *crashes) atRest() {
	c.t.Helper()
	files := daemon.In(c.gateway.Dir)
	root, version, err := revision.ReadRunning(files.Revisions())
	must(c.t, err)
	snapshot, _, err := config.Compile(root, time.Now())
	if err != nil {
		c.t.Fatalf("version %d is not whole: %v", version.Number, err)
	}
	v, err := vault.Open(files.Vault(), vault.Options{ReadOnly: true})
	must(c.t, err)
	defer v.Close()
	for _, certificate := range snapshot.Certificates {
		key, err := v.Open("private-key", certificate.PrivateKey)
		if err != nil {
			c.t.Errorf("version %d, %s: %v", version.Number, certificate.Name, err)
			continue
		}
		if _, err := x509.ParsePKCS8PrivateKey(key); err != nil {
			c.t.Errorf("version %d, %s: its sealed key is none: %v", version.Number, certificate.Name, err)
		}
	}
}

// check asks the gateway, started again, what it has.
func (c *crashes) check() {
	c.t.Helper()
	ctx := c.t.Context()
	number := func(action string) int {
		c.t.Helper()
		name, err := c.api.hostname(ctx, action)
		must(c.t, err)
		n, err := strconv.Atoi(strings.TrimPrefix(name, "gw-"))
		if err != nil {
			c.t.Fatalf("the host name is %q", name)
		}
		return n
	}
	if got := number("show"); got < c.running || got > c.asked {
		c.t.Errorf("the running configuration is of edit %d, that of edit %d was acknowledged, %d asked for", got, c.running, c.asked)
	}
	if got := number("get"); got < c.edited || got > c.asked {
		c.t.Errorf("the candidate is of edit %d, edit %d was acknowledged, %d asked for", got, c.edited, c.asked)
	}
	info, err := c.api.op(ctx, "<show><system><info></info></system></show>")
	if err != nil || !strings.Contains(info, "<device-state>normal</device-state>") {
		c.t.Errorf("the running configuration is not in use: %s, %v", info, err)
	}
	list, err := c.api.op(ctx, "<show><certificate><all></all></certificate></show>")
	must(c.t, err)
	for name := range c.made {
		entry := between(list, `<entry name="`+name+`">`, "</entry>")
		if !strings.Contains(entry, "<key>software</key>") {
			c.t.Errorf("the key %s was acknowledged, and is %q", name, entry)
		}
	}
	if c.latest == "" {
		return
	}
	request, err := c.api.op(ctx, "<request><certificate><csr><certificate-name>"+c.latest+"</certificate-name></csr></certificate></request>")
	must(c.t, err)
	block, _ := pem.Decode([]byte(between(strings.ReplaceAll(request, "&#xA;", "\n"), "<csr>", "</csr>")))
	if block == nil {
		c.t.Fatalf("no request in %s", request)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	must(c.t, err)
	if err := csr.CheckSignature(); err != nil || csr.Subject.CommonName != c.latest {
		c.t.Errorf("the key %s signs a request for %s: %v", c.latest, csr.Subject, err)
	}
}
