package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"moongate/internal/gw/flow"
)

const (
	// maxChain is how many certificates a server may send; the longest honest
	// chains have six.
	maxChain = 32
	// minRSABits is the smallest RSA key that proves anything (NIST SP
	// 800-57, part 1: 112 bits of strength).
	minRSABits = 2048
)

// judge looks at a chain afresh.
func (v *Verifier) judge(name string, chain []*x509.Certificate, now time.Time) judgement {
	f := faults{}
	switch {
	case len(chain) == 0:
		f.add(flow.Invalid, "the server sent no certificate")
		return judgement{f.verdict(), now, now}
	case len(chain) > maxChain:
		f.add(flow.Invalid, "the server sent %d certificates, at most %d are looked at", len(chain), maxChain)
		return judgement{f.verdict(), now, now}
	}
	leaf := chain[0]
	f.checkName(leaf, name)
	f.checkDates(chain[:1], now)
	f.checkKeys(chain[:1])

	paths, err := v.paths(chain, now)
	switch {
	case errors.Is(err, errNoPath):
		v.explain(chain, f)
	case err != nil:
		f.add(flow.Invalid, "the certificate %s: %s", subjectOf(leaf), reason(err))
	}
	if own := v.ownAmong(paths); own != nil {
		f.add(flow.OwnAuthority, "the chain leads to %s, which is the gateway's own authority", subjectOf(own))
	}
	path := strongest(paths)
	f.checkKeys(path)
	f.checkDates(path, now)

	j := judgement{from: now, until: lastUnchanged(now, chain, path)}
	if len(f) > 0 {
		j.verdict = f.verdict()
	} else {
		j.verdict = &flow.Verdict{Status: flow.Trusted, Chain: path, Revocation: notChecked}
	}
	return j
}

// errNoPath: no path leads to a trusted root at any time.
var errNoPath = errors.New("no path to a trusted root")

// paths returns the paths from the leaf to trusted roots, whatever their dates;
// those that are valid now if there are any. Where dates are not the reason
// that there is none, the error is crypto/x509's, or errNoPath.
func (v *Verifier) paths(chain []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	for _, at := range append([]time.Time{now}, otherTimes(chain)...) {
		paths, err := chain[0].Verify(x509.VerifyOptions{
			Roots:         v.roots,
			Intermediates: intermediates,
			CurrentTime:   at,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err == nil {
			return paths, nil
		}
		if concernsLeaf(err, chain[0]) {
			return nil, err
		}
		// Perhaps at another time: crypto/x509 reports an issuer that expired
		// as one that is unknown.
	}
	return nil, errNoPath
}

// concernsLeaf reports whether the leaf itself is unfit at any time and under
// any issuer, or a path was found and refused for what the leaf says.
func concernsLeaf(err error, leaf *x509.Certificate) bool {
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		return true
	}
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return false
	}
	switch invalid.Reason {
	case x509.IncompatibleUsage, x509.CANotAuthorizedForThisName, x509.NoValidChains:
		return true
	}
	return false
}

// otherTimes are moments at which a chain may have been valid as a whole. If
// there is any, the last beginning and the first end among its certificates
// are such; the leaf's own dates are for servers that send more than the path.
func otherTimes(chain []*x509.Certificate) []time.Time {
	leaf := chain[0]
	last, first := leaf.NotBefore, leaf.NotAfter
	for _, c := range chain {
		if c.NotBefore.After(last) {
			last = c.NotBefore
		}
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	var times []time.Time
	for _, t := range []time.Time{last, first, leaf.NotBefore, leaf.NotAfter} {
		inside := !t.Before(leaf.NotBefore) && !t.After(leaf.NotAfter)
		if inside && !slices.ContainsFunc(times, t.Equal) {
			times = append(times, t)
		}
	}
	return times
}

// ownAmong returns the first certificate of any path that has the public key
// of one of the gateway's authorities.
func (v *Verifier) ownAmong(paths [][]*x509.Certificate) *x509.Certificate {
	for _, path := range paths {
		for _, c := range path {
			if v.isOwn(c) {
				return c
			}
		}
	}
	return nil
}

func (v *Verifier) isOwn(c *x509.Certificate) bool {
	return slices.ContainsFunc(v.own, func(own *x509.Certificate) bool {
		return bytes.Equal(own.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
	})
}

// strongest returns the first path without a weak key, or else the first path.
func strongest(paths [][]*x509.Certificate) []*x509.Certificate {
	if len(paths) == 0 {
		return nil
	}
	for _, path := range paths {
		if !slices.ContainsFunc(path, weakKey) {
			return path
		}
	}
	return paths[0]
}

func weakKey(c *x509.Certificate) bool {
	key, isRSA := c.PublicKey.(*rsa.PublicKey)
	return isRSA && key.N.BitLen() < minRSABits
}

// checkKeys notes the first key that is too weak to prove anything.
func (f faults) checkKeys(list []*x509.Certificate) {
	for _, c := range list {
		if weakKey(c) {
			f.add(flow.Invalid, "the certificate %s has an RSA key of %d bits, below %d",
				subjectOf(c), c.PublicKey.(*rsa.PublicKey).N.BitLen(), minRSABits)
		}
	}
}

// lastUnchanged is the last moment before any certificate's validity begins or
// ends.
func lastUnchanged(now time.Time, lists ...[]*x509.Certificate) time.Time {
	// No certificate is asked about for as long.
	until := now.AddDate(100, 0, 0)
	for _, list := range lists {
		for _, c := range list {
			if before := c.NotBefore.Add(-1); !before.Before(now) && before.Before(until) {
				until = before
			}
			if !c.NotAfter.Before(now) && c.NotAfter.Before(until) {
				until = c.NotAfter
			}
		}
	}
	return until
}
