package ha

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"moongate/client"
)

// What only uses or reads: each of these is asked of the member with the least
// outstanding work, and elsewhere where that one fails or is slow. They do what
// the methods of client.Client with their names do.

// Ping goes to a member and back, without its partition.
func (g *Group) Ping(ctx context.Context) error {
	return g.nothing(ctx, need{none: true}, func(ctx context.Context, c *client.Client) error { return c.Ping(ctx) })
}

// Random returns n random bytes of a member's, 1 to 64 KiB.
func (g *Group) Random(ctx context.Context, n int) ([]byte, error) {
	return repeatable(ctx, g, need{none: true}, func(ctx context.Context, c *client.Client) ([]byte, error) { return c.Random(ctx, n) })
}

// nothing makes a call that is answered with an error or none.
func (g *Group) nothing(ctx context.Context, n need, call func(context.Context, *client.Client) error) error {
	_, err := repeatable(ctx, g, n, func(ctx context.Context, c *client.Client) (struct{}, error) {
		return struct{}{}, call(ctx, c)
	})
	return err
}

// using makes a call about one object that is answered with bytes.
func (g *Group) using(ctx context.Context, id ID, call func(context.Context, *client.Client) ([]byte, error)) ([]byte, error) {
	return repeatable(ctx, g, need{key: id}, call)
}

// Find returns the objects that match the pattern, with the attributes that are
// wanted and AttrHandle; no want is all of them. Handles are a member's own:
// between members only the ID names an object. Where one member finds nothing
// the others are asked too.
func (g *Group) Find(ctx context.Context, pattern client.Template, want ...client.AttributeType) ([]client.Found, error) {
	list, err := repeatable(ctx, g, need{all: true}, func(ctx context.Context, c *client.Client) ([]client.Found, error) {
		list, err := c.Find(ctx, pattern, want...)
		if err == nil && len(list) == 0 {
			err = errNothing
		}
		return list, err
	})
	if err != nil && isAbsent(client.CodeOf(err)) {
		return nil, nil
	}
	return list, err
}

// errNothing is how a member that finds nothing says that another may be asked.
var errNothing = &client.HSMError{Code: client.ErrObjectNotFound}

// Objects iterates over what Find returns.
func (g *Group) Objects(ctx context.Context, pattern client.Template, want ...client.AttributeType) iter.Seq2[client.Found, error] {
	return func(yield func(client.Found, error) bool) {
		list, err := g.Find(ctx, pattern, want...)
		if err != nil {
			yield(client.Found{}, err)
			return
		}
		for _, found := range list {
			if !yield(found, nil) {
				return
			}
		}
	}
}

// Attributes reads an object's attributes: those that are wanted and there, or
// all. AttrHandle and AttrUses are a member's own.
func (g *Group) Attributes(ctx context.Context, id ID, want ...client.AttributeType) (client.Template, error) {
	return repeatable(ctx, g, need{key: id}, func(ctx context.Context, c *client.Client) (client.Template, error) {
		return c.Attributes(ctx, id, want...)
	})
}

// Sign signs with a mechanism.
func (g *Group) Sign(ctx context.Context, id ID, m client.Mechanism, data []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) { return c.Sign(ctx, id, m, data) })
}

// Verify has a member check a signature or a MAC.
func (g *Group) Verify(ctx context.Context, id ID, m client.Mechanism, data, signature []byte) error {
	return g.nothing(ctx, need{key: id}, func(ctx context.Context, c *client.Client) error { return c.Verify(ctx, id, m, data, signature) })
}

// MAC computes a message's code with a secret key.
func (g *Group) MAC(ctx context.Context, id ID, m client.MechanismType, message []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) { return c.MAC(ctx, id, m, message) })
}

// VerifyMAC checks what MAC makes, in constant time.
func (g *Group) VerifyMAC(ctx context.Context, id ID, m client.MechanismType, message, mac []byte) error {
	return g.nothing(ctx, need{key: id}, func(ctx context.Context, c *client.Client) error { return c.VerifyMAC(ctx, id, m, message, mac) })
}

// Encrypt encrypts with AES-GCM; the member chooses the nonce. Every member
// draws its own at random, so that two never meet but by the chance that
// docs/ha.md gives.
func (g *Group) Encrypt(ctx context.Context, id ID, plaintext, aad []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) { return c.Encrypt(ctx, id, plaintext, aad) })
}

// Decrypt is the reverse of Encrypt.
func (g *Group) Decrypt(ctx context.Context, id ID, ciphertext, aad []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) {
		return c.Decrypt(ctx, id, ciphertext, aad)
	})
}

// EncryptWith encrypts with a mechanism.
func (g *Group) EncryptWith(ctx context.Context, id ID, m client.Mechanism, plaintext []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) {
		return c.EncryptWith(ctx, id, m, plaintext)
	})
}

// DecryptWith is the reverse of EncryptWith.
func (g *Group) DecryptWith(ctx context.Context, id ID, m client.Mechanism, ciphertext []byte) ([]byte, error) {
	return g.using(ctx, id, func(ctx context.Context, c *client.Client) ([]byte, error) {
		return c.DecryptWith(ctx, id, m, ciphertext)
	})
}

// Wrap returns the key target encrypted under the key wrapping, by RFC 5649.
func (g *Group) Wrap(ctx context.Context, wrapping, target ID) ([]byte, error) {
	return g.WrapWith(ctx, wrapping, target, client.Mechanism{Type: client.MechAESKWP})
}

// WrapWith wraps by a mechanism.
func (g *Group) WrapWith(ctx context.Context, wrapping, target ID, m client.Mechanism) ([]byte, error) {
	return repeatable(ctx, g, need{key: wrapping, also: target}, func(ctx context.Context, c *client.Client) ([]byte, error) {
		return c.WrapWith(ctx, wrapping, target, m)
	})
}

// notFound adds to an answer that there is no such object who could not be
// asked.
func (g *Group) notFound(err error) error {
	var away []string
	for _, m := range g.all() {
		if v := m.view.Load(); !v.usable && m.state() != Removed {
			away = append(away, m.name)
		}
	}
	if len(away) == 0 {
		return err
	}
	slices.Sort(away)
	e := &client.Error{Stage: client.StageKey, Fix: "list the group's objects with `cmu list`, and its members with `cmu ha status`"}
	inner := err
	if was, is := err.(*client.Error); is {
		inner = was.Err
	}
	e.Err = fmt.Errorf("%w; it is on no member that could be asked, and %s could not", inner, strings.Join(away, ", "))
	return e
}
