package adminshell

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/shell"
)

var peerCommands = []command{
	{words: "hsm identity show", roles: lookers, run: (*Shell).identityShow,
		options: []option{optJSON, {name: "out", value: "FILE", stream: toCaller, help: "at the console, a file to be made with the certificate; otherwise it is identity.pem, fetched by scp"}},
		help:    "The HSM's identity, by which other HSMs know it: fingerprint and domain.\nThe certificate itself is identity.pem, which scp fetches."},
	{words: "hsm peer add", roles: admins, run: (*Shell).peerAdd,
		options: []option{
			{name: "name", value: "NAME", required: true, help: "the other HSM's name here"},
			{name: "file", value: "FILE", file: true, inbox: true, help: "its identity.pem; over SSH the name of a file in the HSM's inbox, NAME.pem by default"},
			optForce,
		},
		help: "Pin the identity of another HSM (Security Officer). The shell shows its fingerprint and asks.\nPartitions may clone with those HSMs alone that are pinned, and only as their own officers list them."},
	{words: "hsm peer remove", roles: admins, options: []option{optPeerName, optForce}, run: (*Shell).peerRemove,
		help: "Forget another HSM, and take it from the partitions that clone with it (Security Officer)."},
	{words: "hsm peer list", roles: lookers, options: []option{optJSON}, run: (*Shell).peerList,
		help: "Every pinned HSM."},
	{words: "hsm peer show", roles: lookers, options: []option{optPeerName, optJSON}, run: (*Shell).peerShow,
		help: "One pinned HSM: fingerprint, and the partitions that clone with it."},
}

var optPeerName = option{name: "name", value: "NAME", required: true, help: "the other HSM's name here", values: peerNames}

func peerNames(s *Shell, _ args) []shell.Candidate {
	peers, err := s.appliance.HSM.Peers()
	if err != nil {
		return nil // the command itself will say why
	}
	var list []shell.Candidate
	for _, p := range peers {
		list = append(list, shell.Candidate{Word: p.Name, Help: "SHA-256 " + p.ID.String()})
	}
	return list
}

// identityView is what an HSM says of itself to other HSMs' officers.
type identityView struct {
	File        string `json:"file"`
	Fingerprint string `json:"fingerprint"` // SHA-256 of the certificate, hex
	Domain      string `json:"domain"`
	Certificate string `json:"certificate"` // PEM
}

func (s *Shell) identityShow(_ context.Context, a args) error {
	der, id, err := s.appliance.HSM.HSMIdentity()
	if err != nil {
		return err
	}
	domain, err := s.appliance.HSM.DomainIdentity()
	if err != nil {
		return err
	}
	if a.has("out") {
		err := s.write("out", a.get("out"), func(w io.Writer) error {
			_, err := w.Write(pemOf(der))
			return err
		})
		if err != nil {
			return err
		}
	}
	v := identityView{identityFile, id.String(), domain, string(pemOf(der))}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "HSM identity (SHA-256):\t%s\n", v.Fingerprint)
	fmt.Fprintf(t, "Domain:\t%s\n", v.Domain)
	fmt.Fprintf(t, "Certificate:\t%s, fetched by scp\n", v.File)
	return t.Flush()
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (s *Shell) peerAdd(ctx context.Context, a args) error {
	name := a.get("name")
	content, err := s.delivered(a, "file", name+".pem")
	if err != nil {
		return err
	}
	certificate, err := checkCertificate(content)
	if err != nil {
		return fmt.Errorf("-file: %w", err)
	}
	id := object.HSMID(sha256.Sum256(certificate.Raw))
	fmt.Fprintf(s.term, "HSM identity (SHA-256): %s\n", id)
	caution := fmt.Sprintf("Compare this with what `hsm identity show` prints on %s. With an HSM that is pinned, keys and the domain can be shared.", name)
	if err := s.confirm(a, caution, "pin it as "+name); err != nil {
		return err
	}
	return s.officersDo(ctx, "hsm peer add", func(o *partition.Officer) error { return o.AddPeer(ctx, name, certificate.Raw) })
}

func (s *Shell) peerRemove(ctx context.Context, a args) error {
	name := a.get("name")
	if err := s.confirm(a, "Partitions that clone with "+name+" do so no more; groups with it fall behind.", "forget "+name); err != nil {
		return err
	}
	return s.officersDo(ctx, "hsm peer remove", func(o *partition.Officer) error { return o.RemovePeer(ctx, name) })
}

// peerView is a pinned HSM as a script reads it.
type peerView struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Added       time.Time `json:"added"`
	// Partitions are those that clone with it.
	Partitions []string `json:"partitions"`
}

// peers returns every pinned HSM with the partitions that list it.
func (s *Shell) peers() ([]peerView, error) {
	pinned, err := s.appliance.HSM.Peers()
	if err != nil {
		return nil, err
	}
	partitions, err := s.appliance.HSM.Partitions()
	if err != nil {
		return nil, err
	}
	list := make([]peerView, len(pinned))
	for i, p := range pinned {
		list[i] = peerView{p.Name, p.ID.String(), p.Added, []string{}}
	}
	for _, p := range partitions {
		r, err := s.appliance.HSM.Replication(p.Serial)
		if err != nil {
			return nil, err
		}
		for _, listed := range r.Peers {
			for i := range list {
				if pinned[i].ID == listed.HSM {
					list[i].Partitions = append(list[i].Partitions, p.Label)
				}
			}
		}
	}
	return list, nil
}

func (s *Shell) peerList(_ context.Context, a args) error {
	list, err := s.peers()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(s.term, "No other HSM is pinned; `hsm peer add` pins one.")
		return nil
	}
	t := s.table()
	fmt.Fprintln(t, "Name\tSHA-256\tAdded\tPartitions")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", p.Name, p.Fingerprint, p.Added.Format(time.RFC3339), len(p.Partitions))
	}
	return t.Flush()
}

func (s *Shell) peerShow(_ context.Context, a args) error {
	list, err := s.peers()
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Name != a.get("name") {
			continue
		}
		if a.has("json") {
			return s.printJSON(p)
		}
		t := s.table()
		fmt.Fprintf(t, "Name:\t%s\n", p.Name)
		fmt.Fprintf(t, "HSM identity (SHA-256):\t%s\n", p.Fingerprint)
		fmt.Fprintf(t, "Added:\t%s\n", p.Added.Format(time.RFC3339))
		fmt.Fprintf(t, "Partitions:\t%s\n", quoted(p.Partitions, "none clones with it; `cmu partition peer add` lists it"))
		return t.Flush()
	}
	return object.Errorf(object.ErrObjectNotFound, "no HSM is pinned as %s; `hsm peer list` shows those that are", a.get("name"))
}

// quoted writes labels in one line, or what to do where there is none.
func quoted(labels []string, none string) string {
	if len(labels) == 0 {
		return none
	}
	list := make([]string, len(labels))
	for i, label := range labels {
		list[i] = strconv.Quote(label)
	}
	return strings.Join(list, ", ")
}
