package daemon

import (
	"crypto"
	"crypto/elliptic"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"moongate/client"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
)

// provisionPair makes two HSMs of one domain that have pinned each other, each
// with a partition "p" of its own and a client of it, and returns the client's
// configurations without the addresses. The HSMs do not run afterwards.
func provisionPair(t testing.TB, dirs [2]string) (configs [2]client.Config) {
	t.Helper()
	ctx, who := t.Context(), partition.Operator{Name: "test", From: "here"}
	cert, key, err := client.NewCertificate("c", "127.0.0.1")
	must(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	var hsms [2]*Appliance
	var officers [2]*partition.Officer
	for i, dir := range dirs {
		_, err := Init(initOptions(dir, "127.0.0.1"))
		must(t, err)
		hsms[i], err = Open(options(dir))
		must(t, err)
		officers[i], err = hsms[i].HSM.AuthenticateOfficer(ctx, who, []byte(soPassword))
		must(t, err)
	}
	for i, o := range officers {
		der, _, err := hsms[1-i].HSM.HSMIdentity()
		must(t, err)
		must(t, o.AddPeer(ctx, "other", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	request, err := officers[1].RequestDomain(ctx, "other")
	must(t, err)
	share, err := officers[0].ShareDomain(ctx, "other", request)
	must(t, err)
	must(t, officers[1].JoinDomain(ctx, "other", share))
	for i, o := range officers {
		must(t, o.CreatePartition(ctx, "p"))
		must(t, o.InitCryptoOfficer(ctx, "p", []byte(soPassword)))
		must(t, o.RegisterClient(ctx, partition.Registration{Name: "c", Address: "127.0.0.1", Certificate: cert}))
		must(t, o.AssignPartition(ctx, "c", "p"))
		must(t, hsms[i].Close())
		servers, err := client.LoadCertificates(In(dirs[i]).Certificate())
		must(t, err)
		configs[i] = client.Config{
			ServerCertificates: servers, Certificate: pair, Partition: "p", Role: client.RoleCryptoOfficer,
			Password: func() ([]byte, error) { return []byte(soPassword), nil },
		}
	}
	return configs
}

// TestClonesBetweenHSMs: what a client carries from one HSM that runs to
// another, over the wire and with what they show of it.
func TestClonesBetweenHSMs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dirs := [2]string{newDir(t), newDir(t)}
	configs := provisionPair(t, dirs)
	var clients [2]*client.Client
	var replicas [2]client.Replica
	var figures [2]string
	for i, config := range configs {
		opts := options(dirs[i])
		opts.Metrics = "127.0.0.1:0"
		at, stop := run(t, opts)
		defer func() { must(t, stop()) }()
		config.Address, figures[i] = at.NTLS, at.Metrics
		var err error
		clients[i], err = client.Dial(ctx, config)
		must(t, err)
		defer clients[i].Close()
		replicas[i], err = clients[i].Replica(ctx)
		must(t, err)
	}
	source, target := clients[0], clients[1]
	if replicas[0].Domain != replicas[1].Domain || replicas[0].HSM == replicas[1].HSM || replicas[0].ID == replicas[1].ID || replicas[0].Software == "" {
		t.Fatalf("replicas %+v", replicas)
	}
	_, err := target.OfferClone(ctx, replicas[0].HSM, replicas[0].Serial)
	wantCode(t, err, object.ErrPolicy) // nobody has listed it
	must(t, source.SetPeer(ctx, replicas[1].HSM, replicas[1].Serial, true))
	must(t, target.SetPeer(ctx, replicas[0].HSM, replicas[0].Serial, true))

	pair, err := source.GenerateEC(ctx, elliptic.P256(), nil, nil)
	must(t, err)
	secret, err := source.GenerateAES(ctx, 32, client.NewTemplate(client.BoolAttr(client.AttrEncrypt, true)))
	must(t, err)
	var ids []client.ID
	for state, err := range source.Changes(ctx, 0) {
		must(t, err)
		ids = append(ids, state.ID)
	}
	if len(ids) != 3 || !slices.Contains(ids, pair.Private) || !slices.Contains(ids, secret) {
		t.Fatalf("changes of %v", ids)
	}
	clone := func() []client.CloneResult {
		offer, err := target.OfferClone(ctx, replicas[0].HSM, replicas[0].Serial)
		must(t, err)
		pkg, in, err := source.CloneOut(ctx, offer, ids)
		must(t, err)
		if len(in) != len(ids) {
			t.Fatalf("%d of %d objects are in the package", len(in), len(ids))
		}
		results, err := target.CloneIn(ctx, pkg)
		must(t, err)
		if _, err := target.CloneIn(ctx, pkg); object.CodeOf(err) != object.ErrActionProhibited {
			t.Errorf("the package a second time: %v", err)
		}
		return results
	}
	for _, outcome := range []client.CloneOutcome{client.CloneAdded, client.CloneUnchanged} {
		results := clone()
		for _, r := range results {
			if r.Outcome != outcome {
				t.Errorf("object %v: %v, want %v", r.ID, r.Outcome, outcome)
			}
		}
		if len(results) != len(ids) {
			t.Errorf("%d results", len(results))
		}
	}
	var digests [2]client.ReplicaDigest
	for i, c := range clients {
		digests[i], err = c.Digest(ctx)
		must(t, err)
		key, err := c.Key(ctx, pair.Private)
		must(t, err)
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Error(err)
		}
	}
	if digests[0].Sum != digests[1].Sum || digests[0].Objects != 3 {
		t.Errorf("digests %+v", digests)
	}

	record := client.GroupRecord{ID: object.NewID(), Label: "ha", Serial: "1", Epoch: 1}
	for i, r := range replicas {
		record.Members = append(record.Members, client.GroupMember{Serial: r.Serial, HSM: r.HSM, Name: string(rune('a' + i))})
	}
	must(t, target.SetGroup(ctx, 0, record))
	wantCode(t, target.SetGroup(ctx, 0, record), object.ErrExists)
	back, err := target.Group(ctx)
	must(t, err)
	if back.Epoch != 1 || len(back.Members) != 2 {
		t.Errorf("group %+v", back)
	}

	for at, lines := range map[string][]string{
		figures[0]: {`moongate_hsm_cloned_objects_total{direction="out",outcome="sent"} 6`},
		figures[1]: {
			`moongate_hsm_cloned_objects_total{direction="in",outcome="added"} 3`,
			`moongate_hsm_cloned_objects_total{direction="in",outcome="unchanged"} 3`,
			`moongate_hsm_operations_total{mechanism="",op="CloneIn",outcome="action prohibited"} 2`,
		},
	} {
		response, err := http.Get("http://" + at + "/metrics")
		must(t, err)
		body, err := io.ReadAll(response.Body)
		must(t, err)
		must(t, response.Body.Close())
		for _, line := range lines {
			if !strings.Contains(string(body), line+"\n") {
				t.Errorf("the figures lack %s", line)
			}
		}
	}
}
