package adminshell

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/users"
)

// identityOf is an HSM's identity.pem, and its fingerprint.
func identityOf(t *testing.T, a *Appliance) ([]byte, string) {
	t.Helper()
	der, id, err := a.HSM.HSMIdentity()
	must(t, err)
	return pemOf(der), id.String()
}

func TestPeers(t *testing.T) {
	t.Parallel()
	a, b := newAppliance(t), newAppliance(t)
	s := newAdmin(t, a)
	identity, fingerprint := identityOf(t, b)
	own, ownFingerprint := identityOf(t, a)

	if out := s.ok("hsm identity show"); !strings.Contains(out, ownFingerprint) {
		t.Errorf("identity show printed\n%s", out)
	}
	if out := s.ok("hsm peer list"); !strings.Contains(out, "No other HSM is pinned") {
		t.Errorf("peer list printed\n%s", out)
	}

	// At the console the file is the caller's; the fingerprint is shown before
	// the question.
	s.files = map[string][]byte{"file": identity}
	s.fails("Command failed", "hsm peer add -name hsm-b -file b.pem", []string{"quit"}, "HSM identity (SHA-256): "+fingerprint, "CAUTION", "hsm identity show")
	out := s.ok("hsm peer add -name hsm-b -file b.pem", "proceed")
	if before, _, found := strings.Cut(out, "CAUTION"); !found || !strings.Contains(before, fingerprint) {
		t.Errorf("peer add printed\n%s", out)
	}
	for what, content := range map[string][]byte{
		"more follows the certificate":    append(bytes.Clone(identity), own...),
		"it is no certificate in PEM":     []byte("hello"),
		"a private key":                   []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"this is the identity of this HS": own,
		"pinned as hsm-b already":         identity,
	} {
		s.files = map[string][]byte{"file": content}
		if result, out := s.run("hsm peer add -name other -file x.pem -force"); result == 0 || !strings.Contains(out, what) {
			t.Errorf("%s: %d\n%s", what, result, out)
		}
	}
	if out := s.ok("hsm peer list"); !strings.Contains(out, "hsm-b  "+fingerprint) {
		t.Errorf("peer list printed\n%s", out)
	}
	var shown peerView
	body, _, _ := strings.Cut(s.ok("hsm peer show -name hsm-b -json"), "\nCommand Result")
	must(t, json.Unmarshal([]byte(body), &shown))
	if shown.Name != "hsm-b" || shown.Fingerprint != fingerprint || shown.Added.IsZero() || len(shown.Partitions) != 0 {
		t.Errorf("peer show: %+v", shown)
	}
	s.fails(object.ErrObjectNotFound.String(), "hsm peer show -name nobody", nil, "nobody")
	if words := complete(s, "hsm peer show -name h"); words != "hsm-b" {
		t.Errorf("completed by %q", words)
	}
	s.ok("hsm peer remove -name hsm-b", "proceed")
	s.fails(object.ErrObjectNotFound.String(), "hsm peer remove -name hsm-b -force", nil)
}

// complete returns what a line may end with.
func complete(s *admin, line string) string {
	var words []string
	for _, c := range s.shell.complete(line) {
		words = append(words, c.Word)
	}
	return strings.Join(words, " ")
}

// TestPeerFromInbox: over SSH the file is one that scp delivered.
func TestPeerFromInbox(t *testing.T) {
	t.Parallel()
	a, _ := newServed(t)
	s := as(t, a, users.RoleAdmin)
	identity, _ := identityOf(t, newAppliance(t))
	s.fails("Command failed", "hsm peer add -name hsm-b", nil, "scp hsm-b.pem USER@HSM:")
	must(t, os.WriteFile(filepath.Join(a.Inbox, "hsm-b.pem"), identity, 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(a.Inbox), "outside.pem"), identity, 0o600))
	for _, path := range []string{"../outside.pem", "/etc/hosts", "x.key", "server.pem"} {
		s.fails("Command failed", "hsm peer add -name hsm-b -file "+path, nil, "expected ADDRESS.pem or HOST.pem")
	}
	s.ok("hsm peer add -name HSM-B", "proceed", soPassword) // NAME.pem, in small letters
	s.ok("hsm peer remove -name HSM-B -f", soPassword)
	s.ok("hsm peer add -name other -file hsm-b.pem -f", soPassword)
	if got := recorded(t, a, "peer.add"); len(got) != 4 || !strings.HasPrefix(got[3], "admin: ok: other: HSM ") {
		t.Errorf("peer add is recorded as %q", got)
	}
}

// TestPartitionShowsReplication: with whom it clones, and its group.
func TestPartitionShowsReplication(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	s.ok("partition create -p p1")
	var v partitionView
	body, _, _ := strings.Cut(s.ok("partition show -p p1 -json"), "\nCommand Result")
	must(t, json.Unmarshal([]byte(body), &v))
	if v.Label != "p1" || len(v.Replication.Replica) != 16 || len(v.Replication.Domain) != 32 || v.Replication.Peers == nil || v.Replication.Group != nil {
		t.Errorf("%+v", v)
	}
}
