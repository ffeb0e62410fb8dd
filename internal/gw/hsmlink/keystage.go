package hsmlink

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/keys"
)

const (
	keysEach = 30 * time.Second // how often keys are looked for although nothing changed
	keysFor  = 10 * time.Second // how long that may take of one server
)

// foundKeys is what was found of the keys on one server.
type foundKeys struct {
	known    bool     // it was asked
	present  int      // keys of certificates that it has
	missing  []string // names of certificates whose keys it lacks
	wrapping []string // references of the wrapping keys that it has
}

// look asks one server for the keys.
func (f *foundKeys) look(ctx context.Context, c *client.Client, expected []Expected) error {
	ctx, cancel := context.WithTimeout(client.WithoutWaiting(ctx), keysFor)
	defer cancel()
	found := foundKeys{known: true}
	for _, e := range expected {
		_, err := c.FindKeyByPublic(ctx, crypto.PublicKey(e.PublicKey))
		switch {
		case err == nil:
			found.present++
		case client.CodeOf(err) == client.ErrObjectNotFound, client.CodeOf(err) == client.ErrKeyHandle:
			found.missing = append(found.missing, e.Certificate)
		default:
			return err
		}
	}
	objects, err := c.Find(ctx, client.NewTemplate(client.NumberAttr(client.AttrClass, uint64(client.ClassSecretKey)), client.NumberAttr(client.AttrKeyType, uint64(client.KeyAES))), client.AttrLabel)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if label := o.Attributes.Text(client.AttrLabel); strings.HasPrefix(label, keys.WrappingPrefix) {
			found.wrapping = append(found.wrapping, label)
		}
	}
	slices.Sort(found.wrapping)
	*f = found
	return nil
}

// watchKeys looks for the keys until ctx is done: when it is told to, and now
// and then.
func (l *Link) watchKeys(ctx context.Context) {
	tick := time.NewTicker(keysEach)
	defer tick.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.looking:
		case <-again:
		}
		expected := l.m.expectations()
		again = nil
		for _, mod := range l.modules {
			status, _ := mod.snapshot()
			c := mod.connection()
			if c == nil || !c.Status().Connected || status.Role == "" {
				continue
			}
			var found foundKeys
			if err := found.look(ctx, c, expected); err != nil {
				again = time.After(time.Second) // it went away, or could not answer
				continue
			}
			mod.mu.Lock()
			mod.keys = found
			mod.mu.Unlock()
		}
	}
}

// lookForKeys has the keys be looked for soon.
func (l *Link) lookForKeys() {
	select {
	case l.looking <- struct{}{}:
	default:
	}
}

// wrappingOnOthers are the wrapping keys that any server of a group has.
func (l *Link) wrappingOnOthers(mod *module) []string {
	if l.hsm.HA == nil {
		return nil
	}
	var all []string
	for _, other := range l.modules {
		if other != mod {
			other.mu.Lock()
			all = append(all, other.keys.wrapping...)
			other.mu.Unlock()
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// judgeKeys says how the stage keys stands of a server that is logged in.
func (mod *module) judgeKeys(s *ServerStatus) (int, *Error) {
	if failed := memberProblem(mod.name, s.Member); failed != nil {
		return at(StageKeys), failed
	}
	others := mod.link.wrappingOnOthers(mod)
	mod.mu.Lock()
	found := mod.keys
	mod.mu.Unlock()
	if !found.known {
		mod.link.lookForKeys()
		return at(StageKeys), nil
	}
	s.MissingKeys, s.keys = found.missing, found.present
	for _, ref := range others {
		if !slices.Contains(found.wrapping, ref) {
			s.MissingWrapping = append(s.MissingWrapping, ref)
		}
	}
	fix := "generate or restore the key on the HSM, or import the certificate of the key that is there"
	if mod.link.hsm.HA != nil {
		fix = "copy the keys: `request hsm ha synchronize`"
	}
	switch {
	case len(s.MissingWrapping) > 0:
		return at(StageKeys), &Error{Server: mod.name, Stage: StageKeys, Problem: Problem{CodeWrapping,
			"it lacks wrapping keys that another server has: " + oneOf(s.MissingWrapping), "copy them: `request hsm ha synchronize`"}}
	case len(s.MissingKeys) > 0:
		return at(StageKeys), &Error{Server: mod.name, Stage: StageKeys, Problem: Problem{CodeKeyMissing,
			"it lacks the private keys of certificates: " + oneOf(s.MissingKeys), fix}}
	}
	return len(Stages), nil
}

// oneOf lists names, of many the first few.
func oneOf(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}

// memberProblem is why the group does not take a server for its own, or for
// whole; nil where it does.
func memberProblem(name string, m *ha.MemberStatus) *Error {
	if m == nil || m.Reason == "" {
		return nil
	}
	e := &Error{Server: name, Stage: StageKeys, Problem: Problem{CodeRefused, oneLine(m.Reason), oneLine(m.Fix)}}
	switch m.State {
	case ha.Behind:
		e.Code = CodeDrift
		if e.Fix == "" {
			e.Fix = "copy the keys: `request hsm ha synchronize`"
		}
	case ha.Removed:
		e.Code, e.Fix = CodeNotMember, "make the group the configured servers: `request hsm ha replace-server`"
	case ha.Refused:
	default:
		return nil
	}
	return e
}
