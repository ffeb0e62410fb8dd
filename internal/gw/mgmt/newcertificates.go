package mgmt

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/keyfile"
)

// What a commit asks of certificates that come with it, and not of those that
// run already: a certificate that has expired since, or an HSM that is away,
// must keep nobody from mending something else.

// origin says where a configuration comes from.
type origin bool

const (
	fresh  origin = true  // an administrator's: what is new in it must work
	proven origin = false // one that ran before, or runs: it is not to fail now
)

// checkNewCertificates refuses a new forward CA that has expired, and a new
// certificate whose private key is said to be on the HSM and does not sign
// there. What is wrong with those that run already is warned of.
func (m *Manager) checkNewCertificates(root *config.Node, next *config.Snapshot, from origin, r *jobs.Report) error {
	before := m.Snapshot()
	if from == proven {
		before = next
	}
	problems := m.expiredAuthorities(before, next)
	warnOfNewAuthorities(before, next, r)
	refused, err := m.keysOnHSM(root, before, next, r)
	if err != nil {
		return err
	}
	problems = append(problems, refused...)
	if len(problems) > 0 {
		return problems
	}
	return nil
}

const authoritiesPath = config.SharedPath + "/ssl-decrypt"

// warnOfNewAuthorities says what it takes to replace a forward-trust CA, where
// one is replaced: clients that do not trust the new one refuse its leaves.
func warnOfNewAuthorities(before, next *config.Snapshot, r *jobs.Report) {
	if before == nil {
		return
	}
	for _, a := range []struct{ path, was, is string }{
		{"/forward-trust-certificate/rsa", before.ForwardTrust.RSA, next.ForwardTrust.RSA},
		{"/forward-trust-certificate/ecdsa", before.ForwardTrust.ECDSA, next.ForwardTrust.ECDSA},
	} {
		was, is := certificateNamed(before, a.was), certificateNamed(next, a.is)
		if was == nil || is == nil || bytes.Equal(was.Leaf().Raw, is.Leaf().Raw) {
			continue
		}
		text := fmt.Sprintf("%s%s: replaced, %q by %q: every new leaf is signed by %q from the commit on; a client that does not trust it yet refuses to connect. ", authoritiesPath, a.path, was.Name, is.Name, is.Name)
		if keyfile.SamePublic(was.Leaf().PublicKey, is.Leaf().PublicKey) && bytes.Equal(was.Leaf().RawSubject, is.Leaf().RawSubject) {
			text = fmt.Sprintf("%s%s: renewed, %q by %q with the same key and name: clients that trust either accept its leaves. ", authoritiesPath, a.path, was.Name, is.Name)
		}
		r.Warning(text + fmt.Sprintf("Give clients %q first, commit then, and keep %q on the clients, in the configuration and on the HSM until the last client is moved (docs/certificates.md)", is.Name, was.Name))
	}
}

// expiredAuthorities are the forward CAs of next that have expired, and are not
// the same as before.
func (m *Manager) expiredAuthorities(before, next *config.Snapshot) config.Problems {
	var problems config.Problems
	now := m.now()
	for _, a := range []struct {
		path string
		of   func(*config.Snapshot) string
	}{
		{"/forward-trust-certificate/rsa", func(s *config.Snapshot) string { return s.ForwardTrust.RSA }},
		{"/forward-trust-certificate/ecdsa", func(s *config.Snapshot) string { return s.ForwardTrust.ECDSA }},
		{"/forward-untrust-certificate/rsa", func(s *config.Snapshot) string { return s.ForwardUntrust.RSA }},
		{"/forward-untrust-certificate/ecdsa", func(s *config.Snapshot) string { return s.ForwardUntrust.ECDSA }},
	} {
		cert := certificateNamed(next, a.of(next))
		if cert == nil || !now.After(cert.Leaf().NotAfter) {
			continue
		}
		if before != nil {
			if was := certificateNamed(before, a.of(before)); was != nil && bytes.Equal(was.Leaf().Raw, cert.Leaf().Raw) {
				continue // the compiler warns of it
			}
		}
		problems = append(problems, config.Problem{Path: authoritiesPath + a.path, Text: fmt.Sprintf(
			"expired on %s, got %q, expected a CA that is valid today: make one of the same key with `cmu selfSign -CN=%q -startDate=%s -endDate=%s`, export it with `cmu export` and import it",
			cert.Leaf().NotAfter.UTC().Format(time.DateOnly), cert.Name, cert.Leaf().Subject.CommonName,
			now.UTC().Format(cmuDate), now.UTC().AddDate(5, 0, 0).Format(cmuDate))})
	}
	return problems
}

// cmuDate is how cmu's options give a day.
const cmuDate = "20060102"

func certificateNamed(s *config.Snapshot, name string) *config.Certificate {
	for i := range s.Certificates {
		if s.Certificates[i].Name == name {
			return &s.Certificates[i]
		}
	}
	return nil
}

// keysOnHSM has each private key that is on the HSM sign. The problems of new
// certificates are returned, those of the others are warnings.
func (m *Manager) keysOnHSM(root *config.Node, before, next *config.Snapshot, r *jobs.Report) (config.Problems, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stateWork)
	defer cancel()
	list, err := m.editor.CheckOnHSM(ctx, root)
	if err != nil {
		return nil, err
	}
	var refused config.Problems
	// Keys can only be tried on the HSM that is in use until the commit is made.
	sameHSM := before != nil && reflect.DeepEqual(before.HSM, next.HSM)
	for _, p := range list {
		cert := certificateNamed(next, p.Certificate)
		switch {
		case cert == nil || !sameHSM || before != nil && ranBefore(before, cert):
			r.Warning(p.Error())
		default:
			path := certstore.ListPath + "/" + config.EntryStep(p.Certificate) + "/private-key-on-hsm"
			refused = append(refused, config.Problem{Path: path, Text: "a signature is made before it is committed: " + p.Error()})
		}
	}
	return refused, nil
}

// ranBefore reports whether a certificate's key was on the HSM before, too.
func ranBefore(before *config.Snapshot, cert *config.Certificate) bool {
	for i := range before.Certificates {
		if was := &before.Certificates[i]; was.OnHSM && keyfile.SamePublic(was.Leaf().PublicKey, cert.Leaf().PublicKey) {
			return true
		}
	}
	return false
}
