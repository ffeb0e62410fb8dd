package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"moongate/internal/durable"
)

// identityShown is what `hsm identity show -json` says.
type identityShown struct{ Fingerprint, Domain, Certificate string }

// introduce makes the HSMs know each other: each Security Officer pins all the
// others, and the others join the domain of the first. What is so already is
// left; an HSM that is of another domain and holds partitions is refused, by
// itself.
func (u *up) introduce(ctx context.Context) error {
	identities := make([]identityShown, len(u.hsms))
	for i, h := range u.hsms {
		if err := h.tool.readJSON(ctx, &identities[i], "hsm", "identity", "show"); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(u.l.dir, ".introduce-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, identity := range identities {
		if err := durable.WriteFile(identityFile(dir, i+1), []byte(identity.Certificate), 0o600); err != nil {
			return err
		}
	}
	for _, h := range u.hsms {
		if err := h.pin(ctx, u.cred, dir, identities); err != nil {
			return fmt.Errorf("pinning the other HSMs on HSM %d: %w", h.number, err)
		}
	}
	for i, h := range u.hsms[1:] {
		if identities[i+1].Domain == identities[0].Domain {
			continue
		}
		if err := h.join(ctx, u.cred, dir, u.hsms[0]); err != nil {
			return fmt.Errorf("making HSM %d one of the first one's domain: %w", h.number, err)
		}
	}
	return nil
}

func identityFile(dir string, number int) string {
	return filepath.Join(dir, "identity-"+strconv.Itoa(number)+".pem")
}

// pin pins those of the others that are not pinned yet.
func (h *hsm) pin(ctx context.Context, cred Credentials, dir string, identities []identityShown) error {
	var pinned []struct{ Fingerprint string }
	if err := h.tool.readJSON(ctx, &pinned, "hsm", "peer", "list"); err != nil {
		return err
	}
	known := map[string]bool{identities[h.number-1].Fingerprint: true}
	for _, p := range pinned {
		known[p.Fingerprint] = true
	}
	var script []string
	for i, identity := range identities {
		if !known[identity.Fingerprint] {
			script = append(script, "hsm peer add -force -name "+hsmName(i+1)+" -file "+strconv.Quote(identityFile(dir, i+1)))
		}
	}
	if len(script) == 0 {
		return nil
	}
	return h.tool.asOfficer(ctx, cred, script...)
}

// join hands the first HSM's domain over.
func (h *hsm) join(ctx context.Context, cred Credentials, dir string, first *hsm) error {
	request := filepath.Join(dir, "request-"+strconv.Itoa(h.number))
	share := filepath.Join(dir, "share-"+strconv.Itoa(h.number))
	err := h.tool.asOfficer(ctx, cred, "hsm domain request -peer "+hsmName(first.number)+" -out "+strconv.Quote(request))
	if err == nil {
		err = first.tool.asOfficer(ctx, cred, "hsm domain share -force -peer "+hsmName(h.number)+" -file "+strconv.Quote(request)+" -out "+strconv.Quote(share))
	}
	if err == nil {
		err = h.tool.asOfficer(ctx, cred, "hsm domain join -peer "+hsmName(first.number)+" -file "+strconv.Quote(share))
	}
	return err
}

// asOfficer runs command lines as the HSM's Security Officer.
func (t hsmTool) asOfficer(ctx context.Context, cred Credentials, lines ...string) error {
	_, err := t.run(ctx, answers(append([]string{"hsm login", cred["hsm-so"]}, lines...)...), "shell")
	return err
}
