package mgmt

import (
	"context"
	"errors"
	"fmt"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// startRenewal seals every secret anew, in a job: who had the old master key and
// the keyring can read what was sealed before, and nothing after it.
func (m *Manager) startRenewal(c Caller) error {
	_, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "RenewDataKeys", User: c.Name, Description: "seal secrets under a new data key", Queue: commitQueue,
		Run: func(ctx context.Context, r *jobs.Report) error {
			err := m.renewDataKeys(ctx, c, r)
			if err != nil {
				m.event(logstore.High, "crypto", "data-key-renewal-failed", "", "sealing secrets under a new data key failed: "+oneLine(err.Error()))
			}
			return err
		},
	})
	return err
}

// renewDataKeys makes a new data key, seals the secrets of candidate and running
// configuration under it, and destroys the data keys that no version needs any
// more. A commit of the running configuration is part of it, for which nothing
// but the sealed texts differs.
func (m *Manager) renewDataKeys(ctx context.Context, c Caller, r *jobs.Report) error {
	m.committing.Lock()
	defer m.committing.Unlock()
	if _, pending := m.parts.Revisions.Pending(); pending {
		return errors.New("a commit waits to be confirmed: change the master key again, or renew the data keys, when it is")
	}
	if _, err := m.parts.Vault.RenewDataKeys(); err != nil {
		return err
	}
	r.Progress(10)
	renewed := resealer{vault: m.parts.Vault, done: map[string]string{}}
	running, _ := m.parts.Revisions.Running()
	after, n, err := renewed.tree(running)
	if err != nil {
		return err
	}
	if err := m.resealCandidate(ctx, &renewed); err != nil {
		return err
	}
	if n > 0 {
		meta := revision.Meta{Admin: c.Name, Description: "secrets sealed under a new data key", From: fromOf(c), At: m.now()}
		if _, err := m.install(ctx, meta, after, 0, proven, r); err != nil {
			return err
		}
	}
	r.Progress(90)
	gone, err := m.pruneDataKeys()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d secrets were sealed under a new data key; %d data keys that no version needs were destroyed", n, gone)
	r.Detail(text)
	m.event(logstore.Informational, "crypto", "data-keys-renewed", "", text)
	return nil
}

func (m *Manager) resealCandidate(ctx context.Context, renewed *resealer) error {
	m.editing.Lock()
	defer m.editing.Unlock()
	candidate, rev := m.parts.Revisions.Candidate()
	edits, err := renewed.edits(candidate)
	if err != nil || len(edits) == 0 {
		return err
	}
	_, err = m.parts.Revisions.Edit(ctx, rev, edits...)
	return err
}

// pruneDataKeys destroys the data keys that neither the candidate nor any
// version that is kept needs.
func (m *Manager) pruneDataKeys() (int, error) {
	m.editing.Lock()
	defer m.editing.Unlock()
	candidate, _ := m.parts.Revisions.Candidate()
	trees := []*config.Node{candidate}
	for _, v := range m.parts.Revisions.Versions() {
		root, err := m.parts.Revisions.Version(v.Number)
		if err != nil {
			return 0, err
		}
		trees = append(trees, root)
	}
	inUse := map[string]bool{}
	for _, root := range trees {
		for _, key := range sealedKeys(root) {
			id, err := vault.KeyOf(key.text)
			if err != nil {
				return 0, fmt.Errorf("the private key of certificate %q: %w", key.certificate, err)
			}
			inUse[id] = true
		}
	}
	return m.parts.Vault.PruneDataKeys(inUse)
}

// sealedKey is a sealed private key in a tree.
type sealedKey struct{ certificate, text string }

// sealedKeys are all of a tree's: the only secrets that are sealed in one.
func sealedKeys(root *config.Node) []sealedKey {
	entries, err := config.Select(root, certstore.ListPath+"/entry")
	if err != nil {
		return nil
	}
	var list []sealedKey
	for _, e := range entries {
		for _, child := range e.Children {
			if child.Name == privateKeyElement && child.Text != "" {
				list = append(list, sealedKey{e.Entry, child.Text})
			}
		}
	}
	return list
}

// resealer seals texts anew, each once: what is the same in two configurations
// stays the same.
type resealer struct {
	vault *vault.Vault
	done  map[string]string // new texts by old ones
}

// edits are those that put new texts into a tree.
func (r *resealer) edits(root *config.Node) ([]config.Edit, error) {
	var edits []config.Edit
	for _, key := range sealedKeys(root) {
		text, known := r.done[key.text]
		if !known {
			fresh, changed, err := r.vault.Reseal(certstore.SealKind, key.text)
			if err != nil {
				return nil, fmt.Errorf("the private key of certificate %q: %w", key.certificate, err)
			}
			if !changed {
				continue
			}
			text = fresh
			r.done[key.text] = fresh
		}
		edits = append(edits, config.Edit{
			Op: config.OpSet, Path: certstore.ListPath + "/" + config.EntryStep(key.certificate),
			Elements: []*config.Node{{Name: privateKeyElement, Text: text}},
		})
	}
	return edits, nil
}

// tree is a tree with new texts, and how many there are.
func (r *resealer) tree(root *config.Node) (*config.Node, int, error) {
	edits, err := r.edits(root)
	for _, e := range edits {
		if err != nil {
			break
		}
		root, err = config.Apply(root, e)
	}
	return root, len(edits), err
}
