package web

import (
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// Paths of the configuration that pages read and change.
const (
	systemPath   = config.DevicePath + "/deviceconfig/system"
	hsmPath      = systemPath + "/hsm-settings"
	providerPath = hsmPath + "/provider"
	networkPath  = providerPath + "/safenet-network"
	modulePath   = providerPath + "/pkcs11"
	hsmRoutePath = systemPath + "/route/service/entry[@name='hsm']"
)

// tree is a part of a configuration. A nil one has nothing in it.
type tree struct{ node *config.Node }

// candidate reads what is at a path of the candidate; nothing where it is not
// there.
func (v *visit) candidate(path string) (tree, error) { return v.read(mgmt.Candidate, path) }

func (v *visit) read(which mgmt.Which, path string) (tree, error) {
	nodes, err := v.m().Get(v.ctx(), v.who(), which, path)
	if err != nil || len(nodes) == 0 {
		return tree{}, err
	}
	return tree{nodes[0]}, nil
}

// at is the element at a path of names below; nothing where one is missing.
func (t tree) at(names ...string) tree {
	n := t.node
	for _, name := range names {
		if n == nil {
			return tree{}
		}
		var next *config.Node
		for _, c := range n.Children {
			if c.Name == name {
				next = c
				break
			}
		}
		n = next
	}
	return tree{n}
}

func (t tree) there() bool { return t.node != nil }

// text is a leaf's value below, "" where it is not there.
func (t tree) text(names ...string) string {
	if n := t.at(names...).node; n != nil {
		return n.Text
	}
	return ""
}

// or is text with a value for where it is not there.
func (t tree) or(absent string, names ...string) string {
	if text := t.text(names...); text != "" {
		return text
	}
	return absent
}

// entries are those of a list.
func (t tree) entries() []tree {
	if t.node == nil {
		return nil
	}
	var list []tree
	for _, c := range t.node.Children {
		if c.Name == "entry" {
			list = append(list, tree{c})
		}
	}
	return list
}

// members are the values of a list of names.
func (t tree) members() []string {
	if t.node == nil {
		return nil
	}
	var list []string
	for _, c := range t.node.Children {
		if c.Name == "member" {
			list = append(list, c.Text)
		}
	}
	return list
}

// name is an entry's.
func (t tree) name() string {
	if t.node == nil {
		return ""
	}
	return t.node.Entry
}

// element makes one for an edit; leaf makes one with a value, nil for "".
func element(name string, children ...*config.Node) *config.Node {
	n := &config.Node{Name: name}
	for _, c := range children {
		if c != nil {
			n.Children = append(n.Children, c)
		}
	}
	return n
}

func leaf(name, value string) *config.Node {
	if value == "" {
		return nil
	}
	return &config.Node{Name: name, Text: value}
}

func namedEntry(name string, children ...*config.Node) *config.Node {
	n := element("entry", children...)
	n.Entry = name
	return n
}

func memberList(name string, values []string) *config.Node {
	if len(values) == 0 {
		return nil
	}
	n := &config.Node{Name: name}
	for _, value := range values {
		n.Children = append(n.Children, &config.Node{Name: "member", Text: value})
	}
	return n
}

// replaceWith is the edit that makes an element what is given; with nil it is
// deleted, if it is there.
func replaceWith(path string, n *config.Node) config.Edit {
	if n == nil {
		return config.Edit{Op: config.OpDelete, Path: path}
	}
	return config.Edit{Op: config.OpEdit, Path: path, Elements: []*config.Node{n}}
}
