package daemon

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/object"
)

// TestAuditProof: each state of a log is proved to continue each earlier one,
// and nothing else is.
func TestAuditProof(t *testing.T) {
	t.Parallel()
	log, err := audit.Open(t.TempDir(), audit.Options{Origin: "moongate-hsm/1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := attachment{log: log}
	var earlier []tlog.Tree
	for range 9 {
		checkpoint, err := c.AuditCheckpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tree, err := audit.ParseCheckpoint(checkpoint.Note, checkpoint.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		for _, old := range append(earlier, tree) {
			proof, err := c.AuditProof(t.Context(), uint64(old.N))
			if err != nil {
				t.Fatalf("from %d to %d: %v", old.N, tree.N, err)
			}
			if string(proof.Checkpoint.Note) != string(checkpoint.Note) {
				t.Error("the proof is for another checkpoint")
			}
			var hashes tlog.TreeProof
			for _, h := range proof.Hashes {
				hashes = append(hashes, h)
			}
			if old.N == 0 {
				continue
			}
			if err := tlog.CheckTree(hashes, tree.N, tree.Hash, old.N, old.Hash); err != nil {
				t.Errorf("from %d to %d: %v", old.N, tree.N, err)
			}
		}
		if _, err := c.AuditProof(t.Context(), uint64(tree.N)+1); object.CodeOf(err) != object.ErrArgumentsBad {
			t.Errorf("a log longer than ours: %v", err)
		}
		earlier = append(earlier, tree)
		for range 3 {
			if err := log.Append(audit.Event{Kind: audit.Admin, Action: "test", Outcome: audit.OK}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.SignCheckpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuditProof(t.Context(), 1<<63); object.CodeOf(err) != object.ErrArgumentsBad {
		t.Errorf("a size that is no number of records: %v", err)
	}
}

// provision makes an HSM in dir with a partition and a client of it, by an
// administrator's words, and returns the client's configuration without the
// address. The HSM does not run afterwards.
func provision(t testing.TB, dir string) client.Config {
	t.Helper()
	_, err := Init(initOptions(dir, "127.0.0.1"))
	must(t, err)
	_, stop := run(t, options(dir))
	cert, key, err := client.NewCertificate("c", "127.0.0.1")
	must(t, err)
	shell := &answers{}
	admin, err := adminshell.DialLocal(In(dir).Socket(), shell)
	must(t, err)
	defer admin.Close()
	for _, line := range []string{
		"hsm login", "partition create -p p", "role init -p p -role co",
		"client register -c c -ip 127.0.0.1 -certificate c.pem", "client assignPartition -c c -p p",
	} {
		result, err := admin.Run(adminshell.Request{Words: strings.Fields(line), Files: map[string][]byte{"certificate": cert}})
		if result != 0 || err != nil {
			t.Fatalf("%s: %d, %v\n%s", line, result, err, &shell.out)
		}
	}
	must(t, stop())
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	servers, err := client.LoadCertificates(In(dir).Certificate())
	must(t, err)
	return client.Config{
		ServerCertificates: servers, Certificate: pair, Partition: "p", Role: client.RoleCryptoOfficer,
		Password: func() ([]byte, error) { return []byte(soPassword), nil },
	}
}

// copyTree makes a data directory a copy of another.
func copyTree(t testing.TB, to, from string) {
	t.Helper()
	must(t, os.RemoveAll(to))
	must(t, os.CopyFS(to, os.DirFS(from)))
	must(t, filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error { // a copy has other modes
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()])
	}))
}

// makeKeys makes keys as a client.
func makeKeys(t testing.TB, config client.Config, n int) error {
	c, err := client.Dial(t.Context(), config)
	if err != nil {
		return err
	}
	for range n {
		if _, err := c.GenerateAES(t.Context(), 32, nil); err != nil {
			return errors.Join(err, c.Close())
		}
	}
	return c.Close()
}

// TestClientsRememberTheAuditLog: an HSM that grew is the same; one whose data
// directory was put back to an earlier state is refused by whoever remembers.
func TestClientsRememberTheAuditLog(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	config := provision(t, dir)
	config.CheckpointFile = filepath.Join(t.TempDir(), "audit.note")
	var earlier string
	for round := range 3 {
		at, stop := run(t, options(dir))
		config.Address = at.NTLS
		c, err := client.Dial(t.Context(), config)
		must(t, err)
		_, err = c.GenerateAES(t.Context(), 32, nil)
		must(t, err)
		must(t, c.Close())
		must(t, stop())
		if round == 0 {
			earlier = filepath.Join(t.TempDir(), "copy")
			copyTree(t, earlier, dir)
		}
	}
	copyTree(t, dir, earlier)
	at, stop := run(t, options(dir))
	config.Address = at.NTLS
	_, err := client.Dial(t.Context(), config)
	if e, is := errors.AsType[*client.Error](err); !is || e.Stage != client.StageAudit || !strings.Contains(err.Error(), "rolled back") {
		t.Errorf("an HSM that was put back: %v", err)
	}
	must(t, stop())
}

// TestForkedHSM: a data directory that was put back and then grew beyond what a
// client remembers is not the HSM that it knew, however many records it has.
func TestForkedHSM(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	config := provision(t, dir)
	config.CheckpointFile = filepath.Join(t.TempDir(), "audit.note")
	serve := func(keys int) error {
		at, stop := run(t, options(dir))
		config.Address = at.NTLS
		defer func() { must(t, stop()) }()
		return makeKeys(t, config, keys)
	}
	must(t, serve(1))
	earlier := filepath.Join(t.TempDir(), "copy")
	copyTree(t, earlier, dir)
	must(t, serve(3))
	must(t, serve(0)) // the client remembers them
	remembered := config.CheckpointFile
	copyTree(t, dir, earlier)
	config.CheckpointFile = filepath.Join(t.TempDir(), "other.note") // another client, which lets it grow
	must(t, serve(20))
	config.CheckpointFile = remembered
	err := serve(1)
	isAudit := func(err error) bool {
		e, is := errors.AsType[*client.Error](err)
		return is && e.Stage == client.StageAudit
	}
	if err == nil || !isAudit(err) {
		t.Errorf("a fork that has more records than the client remembers: %v", err)
	}
}

// TestNewActsReachTheHSM: what the client port carries, on a real HSM.
func TestNewActsReachTheHSM(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	config := provision(t, dir)
	at, stop := run(t, options(dir))
	config.Address = at.NTLS
	c, err := client.Dial(t.Context(), config)
	must(t, err)
	ctx := t.Context()

	pair, err := c.GenerateEd25519(ctx, nil, nil)
	must(t, err)
	key, err := c.Key(ctx, pair.Private)
	must(t, err)
	signature, err := key.Sign(nil, []byte("message"), crypto.Hash(0))
	must(t, err)
	must(t, c.Verify(ctx, pair.Public, client.Mechanism{Type: client.MechEdDSA}, []byte("message"), signature))
	err = c.Verify(ctx, pair.Public, client.Mechanism{Type: client.MechEdDSA}, []byte("other"), signature)
	wantCode(t, err, object.ErrSignatureInvalid)

	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	imported, err := c.ImportKey(ctx, private, nil)
	must(t, err)
	key, err = c.Key(ctx, imported)
	must(t, err)
	signature, err = key.Sign(nil, []byte("message"), crypto.Hash(0))
	must(t, err)
	if !ed25519.Verify(public, []byte("message"), signature) {
		t.Error("the imported key signs otherwise")
	}
	secret, err := c.GenerateSecret(ctx, 32, client.NewTemplate(client.BoolAttr(client.AttrDerive, true)))
	must(t, err)
	_, err = c.DeriveHKDF(ctx, secret, client.HashSHA256, []byte("salt"), nil, client.NewTemplate(client.NumberAttr(client.AttrValueLen, 32)))
	must(t, err)
	status, err := c.PartitionStatus(ctx)
	must(t, err)
	// The pair, the imported key, two secrets; nothing is left of the import.
	if status.Label != "p" || len(status.Policies) == 0 || len(status.Roles) == 0 || status.Objects != 5 {
		t.Errorf("status %+v", status)
	}
	wantCode(t, c.InitPartition(ctx, []byte("short")), object.ErrExists) // p has its Crypto Officer
	must(t, c.Close())
	must(t, stop())
}
