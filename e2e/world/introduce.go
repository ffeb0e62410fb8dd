package world

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Introduce makes HSMs one domain in which each has pinned each other one, by
// the commands that docs/replication.md tells a Security Officer. Those behind
// the first must hold no partition. They are called hsm1, hsm2 and so on, in
// their order.
func Introduce(ctx context.Context, dir string, hsms ...*HSM) error {
	names := make([]string, len(hsms))
	files := make([]string, len(hsms))
	for i, h := range hsms {
		names[i] = memberName(i)
		certificate, err := h.identity(ctx)
		if err != nil {
			return fmt.Errorf("introducing %s: %w", names[i], err)
		}
		files[i] = filepath.Join(dir, names[i]+"-identity.pem")
		if err := os.WriteFile(files[i], []byte(certificate), 0o600); err != nil {
			return err
		}
	}
	for i, h := range hsms {
		var lines []string
		for j := range hsms {
			if i != j {
				lines = append(lines, "hsm peer add -name "+names[j]+" -file "+files[j]+" -force")
			}
		}
		if _, err := h.Shell(ctx, lines...); err != nil {
			return fmt.Errorf("introducing %s: %w", names[i], err)
		}
	}
	for i, h := range hsms[1:] {
		if err := h.join(ctx, dir, names[1+i], names[0], hsms[0]); err != nil {
			return fmt.Errorf("making %s one of the domain: %w", names[1+i], err)
		}
	}
	return nil
}

// identity is the PEM by which other HSMs know this one.
func (h *HSM) identity(ctx context.Context) (string, error) {
	out, err := h.Command(ctx, "", "hsm", "identity", "show", "-json")
	if err != nil {
		return "", err
	}
	var said struct{ Certificate string }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&said); err != nil {
		return "", fmt.Errorf("reading the identity: %w\n%s", err, out)
	}
	return said.Certificate, nil
}

// join makes h, which the first HSM calls name, one of the first one's domain.
func (h *HSM) join(ctx context.Context, dir, name, firstName string, first *HSM) error {
	request, share := filepath.Join(dir, name+".request"), filepath.Join(dir, name+".share")
	if _, err := h.Shell(ctx, "hsm domain request -peer "+firstName+" -out "+request); err != nil {
		return err
	}
	if _, err := first.Shell(ctx, "hsm domain share -peer "+name+" -file "+request+" -out "+share+" -force"); err != nil {
		return err
	}
	_, err := h.Shell(ctx, "hsm domain join -peer "+firstName+" -file "+share)
	return err
}
