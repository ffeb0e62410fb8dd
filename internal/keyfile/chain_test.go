package keyfile

import (
	"crypto"
	"crypto/x509"
	"strings"
	"testing"
)

func TestChain(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root", ecKey(t))
	middle := issue(t, root, "middle", ecKey(t))
	leaf := issue(t, middle, "leaf", ecKey(t))
	old := issue(t, nil, "old root", ecKey(t))
	crossed := &party{issue(t, old, "root", root.key).cert, root.key} // root, known by old too
	stranger := issue(t, nil, "stranger", ecKey(t))
	certs := func(list ...*party) []*x509.Certificate {
		var out []*x509.Certificate
		for _, p := range list {
			out = append(out, p.cert)
		}
		return out
	}
	for name, test := range map[string]struct {
		list, want []*x509.Certificate
		key        crypto.Signer
		wrong      string
	}{
		"in order":                 {list: certs(leaf, middle, root), want: certs(leaf, middle, root)},
		"backwards":                {list: certs(root, middle, leaf), want: certs(leaf, middle, root)},
		"mixed, with the key":      {list: certs(middle, leaf, root), key: leaf.key, want: certs(leaf, middle, root)},
		"the key of the middle":    {list: certs(root, middle), key: middle.key, want: certs(middle, root)},
		"one":                      {list: certs(leaf), want: certs(leaf)},
		"a root":                   {list: certs(root), want: certs(root)},
		"cross-signed, root first": {list: certs(leaf, middle, root, crossed, old), want: certs(leaf, middle, root)},
		"cross-signed alone":       {list: certs(crossed, old, middle, leaf), want: certs(leaf, middle, crossed, old)},
		"a stranger":               {list: certs(leaf, middle, stranger), wrong: `"CN=leaf", "CN=stranger"`},
		"a stranger, with the key": {list: certs(leaf, middle, stranger), key: leaf.key, wrong: `"CN=stranger" issued none`},
		"a gap":                    {list: certs(leaf, root), wrong: "issued none of the others"},
		"a leaf below the key":     {list: certs(leaf, middle), key: middle.key, wrong: `"CN=leaf" issued none`},
		"another key":              {list: certs(leaf, middle), key: stranger.key, wrong: "does not belong"},
		"nothing":                  {wrong: "no certificate"},
	} {
		var public crypto.PublicKey
		if test.key != nil {
			public = test.key.Public()
		}
		chain, err := Chain(test.list, public)
		if test.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || subjects(chain) != subjects(test.want) || len(chain) != len(test.want) {
			t.Errorf("%s: %s, %v", name, subjects(chain), err)
			continue
		}
		for i, c := range chain {
			if c != test.want[i] {
				t.Errorf("%s: certificate %d is another of the name", name, i)
			}
		}
	}
}
