package hsmlink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
)

// ErrOfficerNeeded: what was asked for changes keys, and the gateway logs in as
// the Crypto User and has no password of the Crypto Officer's.
var ErrOfficerNeeded = errors.New("this needs the partition's Crypto Officer: give the password with the command, or let the gateway keep it (`request hsm login role crypto-officer`)")

var (
	_ keys.Link     = (*Link)(nil)
	_ keys.Maker    = (*Link)(nil)
	_ vault.Wrapper = (*Link)(nil)
)

// OfficerNeeded reports whether a change of keys needs the Crypto Officer's
// password to be given (WithOfficer).
func (m *Manager) OfficerNeeded() bool {
	l := m.current()
	return l != nil && l.hsm.Provider == config.NetworkHSM && l.role() != client.RoleCryptoOfficer &&
		m.store.has(passwordOf{l.servedName(), client.RoleCryptoOfficer}) != nil
}

type officerKey struct{}

// WithOfficer returns a context whose changes of keys are made as the Crypto
// Officer with this password, which the caller clears when the call is over.
func WithOfficer(ctx context.Context, password []byte) context.Context {
	return context.WithValue(ctx, officerKey{}, password)
}

// NewKey makes a wrapping key, on every member of a group, as the Crypto
// Officer.
func (l *Link) NewKey(ctx context.Context) (ref string, err error) {
	defer l.lookForKeys()
	given, _ := ctx.Value(officerKey{}).([]byte)
	if len(given) == 0 && l.role() == client.RoleCryptoOfficer {
		return l.inner.NewKey(ctx)
	}
	if len(given) == 0 && l.hsm.Provider == config.NetworkHSM && l.m.store.has(passwordOf{l.servedName(), client.RoleCryptoOfficer}) != nil {
		return "", fmt.Errorf("making a wrapping key: %w", ErrOfficerNeeded)
	}
	if l.groupNow() != nil {
		err = l.asOfficer(ctx, given, func(g *ha.Group, _ ha.Config) error {
			ref, err = keys.Network(keptGroup{g}).(vault.Wrapper).NewKey(ctx)
			return err
		})
		return ref, err
	}
	c, err := l.dialOfficer(ctx, given)
	if err != nil {
		return "", fmt.Errorf("making a wrapping key: %w", err)
	}
	defer c.Close()
	return keys.Network(kept{c}).(vault.Wrapper).NewKey(ctx)
}

// dialOfficer logs in to the server that is used as the Crypto Officer; an
// empty password is the kept one.
func (l *Link) dialOfficer(ctx context.Context, password []byte) (*client.Client, error) {
	i := slices.IndexFunc(l.modules, l.isServed)
	mod := l.modules[max(i, 0)]
	if l.hsm.Provider != config.NetworkHSM {
		return nil, ErrOfficerNeeded // a token has one PIN, with which it is logged in already
	}
	c, failed := l.officerOf(mod, password)
	if failed != nil {
		return nil, failed
	}
	return client.Dial(ctx, c)
}

// officerOf is how to reach a server as the Crypto Officer.
func (l *Link) officerOf(mod *module, password []byte) (client.Config, error) {
	ids, err := l.m.store.identities()
	p := l.planFor(mod, ids, err, client.RoleCryptoOfficer)
	if !p.connect {
		return client.Config{}, p.problem
	}
	of := passwordOf{mod.name, client.RoleCryptoOfficer}
	if len(password) == 0 {
		_, pins, err := l.m.store.pins(mod.name)
		if err == nil {
			err = l.m.store.maySend(of, mod.address, pins)
		}
		if err != nil {
			return client.Config{}, explain(mod.name, mod.address, err)
		}
	}
	p.config.Role = client.RoleCryptoOfficer
	p.config.Password = func() ([]byte, error) {
		if len(password) > 0 {
			return slices.Clone(password), nil
		}
		return l.m.store.password(of)
	}
	return p.config, nil
}

// Wrap asks whatever is connected now.
func (l *Link) Wrap(ctx context.Context, ref string, plain []byte) ([]byte, error) {
	return l.inner.Wrap(ctx, ref, plain)
}

// Unwrap asks whatever is connected now.
func (l *Link) Unwrap(ctx context.Context, ref string, wrapped []byte) ([]byte, error) {
	return l.inner.Unwrap(ctx, ref, wrapped)
}

// Keys lists the wrapping keys; in a group with who of the servers, asked one by
// one, holds each.
func (l *Link) Keys(ctx context.Context) ([]vault.WrappingKey, error) {
	list, err := l.inner.Keys(ctx)
	if err != nil || l.hsm.HA == nil {
		return list, err
	}
	for _, mod := range l.modules {
		found := l.wrappingOf(ctx, mod)
		for i := range list {
			if slices.Contains(found, list[i].Ref) {
				list[i].Members = append(list[i].Members, mod.name)
			} else {
				list[i].Missing = append(list[i].Missing, mod.name)
			}
		}
	}
	return list, nil
}

// wrappingOf are the references of the wrapping keys that a server says it has;
// none where it cannot be asked.
func (l *Link) wrappingOf(ctx context.Context, mod *module) []string {
	c := mod.connection()
	if c == nil || !c.Status().Connected {
		return nil
	}
	within, cancel := context.WithTimeout(client.WithoutWaiting(ctx), keysFor)
	defer cancel()
	list, err := keys.Network(kept{c}).(vault.Wrapper).Keys(within)
	if err != nil {
		return nil
	}
	var refs []string
	for _, k := range list {
		refs = append(refs, k.Ref)
	}
	return refs
}
