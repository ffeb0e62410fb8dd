package mgmt

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/revision"
)

// Change makes edits of the candidate: all of them, or none. Of several, the
// error says in its Edit which one was refused.
func (m *Manager) Change(ctx context.Context, c Caller, edits ...config.Edit) error {
	if len(edits) == 0 {
		return refuse(CodeBadParameter, "there is nothing to change")
	}
	if err := m.allow(c, admin.OpEditConfig, edits[0].Path); err != nil {
		m.record(c, string(edits[0].Op), edits[0].Path, "", "", failed(err))
		return err
	}
	err := m.change(ctx, c, "", nil, edits)
	if err != nil {
		at := edits[0]
		if e, coded := errors.AsType[*Error](err); coded && e.Edit > 0 {
			at = edits[e.Edit-1]
		}
		m.record(c, string(at.Op), at.Path, "", "", failed(err))
	}
	return err
}

// change checks edits against the candidate, one after the other, and then
// stores them all. What is checked is what is stored: m.editing is held. command
// is what the log calls it, each edit's own word where it is "".
// Where the edits were made from a candidate, its certificates must still be what
// they were.
func (m *Manager) change(ctx context.Context, c Caller, command string, from *config.Node, edits []config.Edit) error {
	m.editing.Lock()
	defer m.editing.Unlock()
	if err := m.free(revision.LockConfig, c); err != nil {
		return err
	}
	before, rev := m.parts.Revisions.Candidate()
	if from != nil && !config.Equal(part(from, certstore.ListPath), part(before, certstore.ListPath)) {
		return refuse(CodeNotPossible, "somebody else changed the certificates meanwhile: try again")
	}
	trees := []*config.Node{before} // before the first edit, after each of those that are compared
	sealed := make([]config.Edit, len(edits))
	root := before
	for i, e := range edits {
		e, err := m.sealed(root, e)
		if err != nil {
			return numbered(err, i, len(edits))
		}
		after, err := config.Apply(root, e)
		if err != nil {
			return numbered(err, i, len(edits))
		}
		if err := m.mayReplace(c, root, after, e.Path); err != nil {
			return numbered(err, i, len(edits))
		}
		sealed[i], root = e, after
		if len(trees) <= maxCompared {
			trees = append(trees, after)
		}
	}
	if _, err := m.parts.Revisions.Edit(ctx, rev, sealed...); err != nil {
		return coded(err)
	}
	m.changedBy(c)
	records := make([]logstore.Change, len(edits))
	for i, e := range sealed {
		was, is := "", ""
		if i+1 < len(trees) {
			was, is = beforeAfter(config.Diff(trees[i], trees[i+1]))
		} else {
			is = said(e)
		}
		records[i] = m.entry(c, cmp.Or(command, string(e.Op)), e.Path, was, is, resultDone)
	}
	m.write(records...)
	return nil
}

// maxCompared is of how many edits of one change the log has what each changed,
// before and after; of the others it has what they said. Comparing takes time
// with the length of a list, and a change of ten thousand rules has as many
// edits.
const maxCompared = 100

// said is what an edit asks for, on a line, its secrets masked.
func said(e config.Edit) string {
	var parts []string
	for _, n := range e.Elements {
		path := e.Path
		if e.Op == config.OpSet {
			path = strings.TrimSuffix(path, "/") + "/" + stepOf(n)
		}
		parts = append(parts, config.Compact(config.MaskAt(path, n)))
	}
	for _, word := range []string{e.NewName, e.Where, e.Dst} {
		if word != "" {
			parts = append(parts, word)
		}
	}
	return bounded(strings.Join(parts, " "))
}

// numbered says in an error which of several edits it is about.
func numbered(err error, i, of int) error {
	err = coded(err)
	e, is := errors.AsType[*Error](err)
	if !is || of == 1 {
		return err
	}
	return &Error{Code: e.Code, Lines: e.Lines, Edit: i + 1}
}

// adminsPath is the part of a configuration that says who administers the
// gateway: for superusers alone.
const adminsPath = "/config/mgt-config"

// mayReplace refuses a change of administrators to who may not make it, by
// whichever path it comes.
func (m *Manager) mayReplace(c Caller, before, after *config.Node, object string) error {
	if m.may(c, admin.OpEditAdmins) || !adminsDiffer(before, after) {
		return nil
	}
	return m.allow(c, admin.OpEditAdmins, object)
}

func adminsDiffer(before, after *config.Node) bool {
	b, a := part(before, adminsPath), part(after, adminsPath)
	return !config.Equal(b, a)
}

// part is one element of a tree, nil where it is not there.
func part(root *config.Node, path string) *config.Node {
	found, err := config.Select(root, path)
	if err != nil || len(found) != 1 {
		return nil
	}
	return found[0]
}

// free refuses what another administrator's lock keeps from the caller.
func (m *Manager) free(kind revision.LockKind, c Caller) error {
	for _, l := range m.parts.Revisions.Locks() {
		if l.Kind != kind || l.Admin == c.Name {
			continue
		}
		text := "Configuration is locked" // clients look for these words
		if kind == revision.LockCommit {
			text = "Commits are locked"
		}
		text += " by " + l.Admin
		if l.Comment != "" {
			text += " (" + l.Comment + ")"
		}
		return refuse(CodeNotPossible, "%s since %s: ask for the lock to be released, or have a superuser release it", text, l.At.Format("2006-01-02 15:04:05"))
	}
	return nil
}

// masked is how a secret is shown, and comes back from who edits what was shown.
const masked = "********"

// sealed returns an edit in which no secret is left in the clear: a private key
// is checked and sealed, and one that is still masked is the one that is there.
func (m *Manager) sealed(root *config.Node, e config.Edit) (config.Edit, error) {
	if len(e.Elements) == 0 {
		return e, nil
	}
	row, err := config.Lookup(e.Path)
	if err != nil {
		return e, err
	}
	elements := make([]*config.Node, len(e.Elements))
	for i, n := range e.Elements {
		path, of, known := e.Path, row, true
		if e.Op == config.OpSet {
			path = strings.TrimSuffix(e.Path, "/") + "/" + stepOf(n)
			of, known = row.Child(n.Name)
		}
		if elements[i] = n; !known {
			continue // config.Apply refuses it
		}
		if elements[i], err = m.sealBelow(root, of, n, path); err != nil {
			return e, err
		}
	}
	e.Elements = elements
	return e, nil
}

// sealBelow returns the element with its secrets sealed: itself where it has
// none in the clear. What the schema does not know is left to config.Apply.
func (m *Manager) sealBelow(root *config.Node, row config.Row, n *config.Node, path string) (*config.Node, error) {
	if row.Secret() {
		text, err := m.sealText(root, row, n.Text, path)
		if err != nil || text == n.Text {
			return n, err
		}
		c := *n
		c.Text = text
		return &c, nil
	}
	var children []*config.Node // made at the first that differs
	for i, child := range n.Children {
		below, known := row.Child(child.Name)
		if !known {
			continue
		}
		sealed, err := m.sealBelow(root, below, child, path+"/"+stepOf(child))
		if err != nil {
			return nil, err
		}
		if sealed == child {
			continue
		}
		if children == nil {
			children = slices.Clone(n.Children)
		}
		children[i] = sealed
	}
	if children == nil {
		return n, nil
	}
	c := *n
	c.Children = children
	return &c, nil
}

func (m *Manager) sealText(root *config.Node, row config.Row, text, path string) (string, error) {
	switch {
	case text == masked:
		if there := part(root, path); there != nil {
			return there.Text, nil
		}
		return "", refuse(CodeInvalidObject, "%s: %s stands for the secret that is there, and there is none: give the secret itself", path, masked)
	case row.Name() == privateKeyElement && strings.HasPrefix(text, "-----BEGIN "):
		return m.sealPEM(path, text)
	}
	return text, nil
}

func stepOf(n *config.Node) string {
	if n.Name == "entry" {
		return config.EntryStep(n.Entry)
	}
	return n.Name
}
