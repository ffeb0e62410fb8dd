package keys

import (
	"context"
	"crypto/elliptic"
	"fmt"

	"moongate/client"
)

// Spec is the kind of a new key pair: RSA of so many bits, or a curve.
type Spec struct {
	RSABits int            // 2048, 3072 or 4096; 0 with Curve
	Curve   elliptic.Curve // P-256 or P-384; nil with RSABits
	Label   string         // by which people find it on the HSM
	Decrypt bool           // an RSA key of a server, for the RSA key exchange
}

// Maker is a Provider's further half where keys can be made: a Link and a
// Switch have it. It is safe for concurrent use.
type Maker interface {
	// Make makes a key pair that never leaves the provider. It is not
	// repeated when the connection breaks. The error wraps ErrUnavailable
	// when the provider cannot be asked now.
	Make(ctx context.Context, s Spec) (Key, error)
}

func (n *network) Make(ctx context.Context, s Spec) (Key, error) {
	label := client.TextAttr(client.AttrLabel, s.Label)
	private := client.NewTemplate(label, client.BoolAttr(client.AttrSign, true))
	var pair client.KeyPair
	err := measure(ctx, func(ctx context.Context) error {
		var err error
		if s.Curve != nil {
			pair, err = n.client.GenerateEC(ctx, s.Curve, client.NewTemplate(label), private)
		} else {
			private = private.With(client.BoolAttr(client.AttrDecrypt, s.Decrypt))
			pair, err = n.client.GenerateRSA(ctx, s.RSABits, client.NewTemplate(label), private)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", classify(ctx, err))
	}
	made, err := n.client.Key(ctx, pair.Private)
	if err != nil {
		return nil, fmt.Errorf("looking up the key that was made: %w", classify(ctx, err))
	}
	return n.Key(ctx, made.Public())
}

// Make asks the link of this moment, which may be one that makes no keys.
func (s *Switch) Make(ctx context.Context, spec Spec) (Key, error) {
	link := s.current()
	maker, can := link.(Maker)
	if !can {
		return nil, fmt.Errorf("making a key: %w: %s", ErrUnavailable, link.Status().Cause)
	}
	return maker.Make(ctx, spec)
}
