package keys

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moongate/client"
	"moongate/internal/gw/vault"
)

// WrappingPrefix begins the label of every wrapping key. The whole label is the
// key's reference: copies on other members of a group have the same one.
const WrappingPrefix = "moongate-mkey-"

// wrappingSize is that of a wrapping key in bytes: AES-256.
const wrappingSize = 32

// A Link to a network HSM and a Switch are vault.Wrappers.
var (
	_ vault.Wrapper = (*network)(nil)
	_ vault.Wrapper = (*Switch)(nil)
)

// NewKey makes an AES-256 key that encrypts and decrypts inside the HSM and
// never leaves it.
func (n *network) NewKey(ctx context.Context) (string, error) {
	var random [8]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	ref := WrappingPrefix + time.Now().UTC().Format("20060102") + "-" + hex.EncodeToString(random[:])
	err := measure(ctx, func(ctx context.Context) error {
		_, err := n.client.GenerateAES(ctx, wrappingSize, client.NewTemplate(
			client.TextAttr(client.AttrLabel, ref),
			client.BoolAttr(client.AttrEncrypt, true), client.BoolAttr(client.AttrDecrypt, true),
			client.BoolAttr(client.AttrSensitive, true), client.BoolAttr(client.AttrExtractable, false),
		))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("making a wrapping key: %w", classify(ctx, err))
	}
	return ref, nil
}

func (n *network) Wrap(ctx context.Context, ref string, plain []byte) ([]byte, error) {
	return n.wrapping(ctx, ref, "wrapping a key", func(ctx context.Context, key client.ID) ([]byte, error) {
		return n.client.Encrypt(ctx, key, plain, wrappingContext(ref))
	})
}

func (n *network) Unwrap(ctx context.Context, ref string, wrapped []byte) ([]byte, error) {
	return n.wrapping(ctx, ref, "unwrapping a key", func(ctx context.Context, key client.ID) ([]byte, error) {
		return n.client.Decrypt(ctx, key, wrapped, wrappingContext(ref))
	})
}

// wrappingContext binds what is wrapped to its purpose and its wrapping key.
func wrappingContext(ref string) []byte { return []byte("moongate master key, version 1\x00" + ref) }

// wrapping runs an operation with the key of that reference; where several have
// the label, with each until it succeeds.
func (n *network) wrapping(ctx context.Context, ref, doing string, operation func(context.Context, client.ID) ([]byte, error)) ([]byte, error) {
	if !strings.HasPrefix(ref, WrappingPrefix) || len(ref) > vault.MaxWrappingRef {
		return nil, fmt.Errorf("%s: %w: %q is no reference of one", doing, vault.ErrNoWrappingKey, ref)
	}
	found, err := n.wrappingKeys(ctx, client.TextAttr(client.AttrLabel, ref))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w: %s", doing, vault.ErrNoWrappingKey, ref)
	}
	var failures []error
	for _, f := range found {
		var out []byte
		err := measure(ctx, func(ctx context.Context) error {
			var err error
			out, err = operation(ctx, f.ID)
			return err
		})
		if err == nil {
			return out, nil
		}
		if err = classify(ctx, err); errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: %w", vault.ErrNoWrappingKey, err) // destroyed meanwhile
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("%s by %s: %w", doing, ref, errors.Join(failures...))
}

// wrappingKeys finds the wrapping keys that have an attribute, and that the HSM
// says never leave it.
func (n *network) wrappingKeys(ctx context.Context, by ...client.Attribute) ([]client.Found, error) {
	pattern := client.NewTemplate(append(by,
		client.NumberAttr(client.AttrClass, uint64(client.ClassSecretKey)), client.NumberAttr(client.AttrKeyType, uint64(client.KeyAES)),
		client.BoolAttr(client.AttrSensitive, true), client.BoolAttr(client.AttrExtractable, false))...)
	var found []client.Found
	err := measure(ctx, func(ctx context.Context) error {
		var err error
		found, err = n.client.Find(ctx, pattern, client.AttrLabel, client.AttrCreated)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for wrapping keys: %w", classify(ctx, err))
	}
	return slices.DeleteFunc(found, func(f client.Found) bool {
		label := f.Attributes.Text(client.AttrLabel)
		return !strings.HasPrefix(label, WrappingPrefix) || len(label) > vault.MaxWrappingRef
	}), nil
}

func (n *network) Keys(ctx context.Context) ([]vault.WrappingKey, error) {
	found, err := n.wrappingKeys(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]vault.WrappingKey, len(found))
	for i, f := range found {
		label := f.Attributes.Text(client.AttrLabel)
		list[i] = vault.WrappingKey{Ref: label, Label: label}
		if seconds, known := f.Attributes.Number(client.AttrCreated); known {
			list[i].Created = time.Unix(int64(seconds), 0).UTC()
		}
	}
	slices.SortFunc(list, func(a, b vault.WrappingKey) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Ref, b.Ref))
	})
	return list, nil
}

// wrapper is the link of this moment as a vault.Wrapper.
func (s *Switch) wrapper() (vault.Wrapper, error) {
	link := s.current()
	w, can := link.(vault.Wrapper)
	if !can {
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, link.Status().Cause)
	}
	return w, nil
}

// NewKey asks the link of this moment.
func (s *Switch) NewKey(ctx context.Context) (string, error) {
	w, err := s.wrapper()
	if err != nil {
		return "", fmt.Errorf("making a wrapping key: %w", err)
	}
	return w.NewKey(ctx)
}

// Wrap asks the link of this moment.
func (s *Switch) Wrap(ctx context.Context, ref string, plain []byte) ([]byte, error) {
	w, err := s.wrapper()
	if err != nil {
		return nil, fmt.Errorf("wrapping a key: %w", err)
	}
	return w.Wrap(ctx, ref, plain)
}

// Unwrap asks the link of this moment.
func (s *Switch) Unwrap(ctx context.Context, ref string, wrapped []byte) ([]byte, error) {
	w, err := s.wrapper()
	if err != nil {
		return nil, fmt.Errorf("unwrapping a key: %w", err)
	}
	return w.Unwrap(ctx, ref, wrapped)
}

// Keys asks the link of this moment.
func (s *Switch) Keys(ctx context.Context) ([]vault.WrappingKey, error) {
	w, err := s.wrapper()
	if err != nil {
		return nil, fmt.Errorf("looking for wrapping keys: %w", err)
	}
	return w.Keys(ctx)
}
