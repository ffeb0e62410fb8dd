package config

import "bytes"

// maxFragment is a bound on a piece of a configuration: the XML API takes no
// larger body.
const maxFragment = 5 << 20

// ParseFragment reads a piece of a configuration: one element or several beside
// each other, by the rules of Decode. White space alone is no element at all. An
// error is Problems, with paths that begin at the piece.
func ParseFragment(data []byte) ([]*Node, error) {
	const open, shut = "<fragment>", "</fragment>"
	if len(data) > maxFragment {
		var problems Problems
		problems.add(1, "/", "the element is too large, expected at most %d bytes", maxFragment)
		return nil, problems
	}
	wrapped := bytes.Join([][]byte{[]byte(open), data, []byte(shut)}, nil)
	root, problems := decodeIn(wrapped, 1)
	if len(problems) > 0 {
		return nil, problems
	}
	if root.Text != "" {
		problems.add(1, "/", "text where elements are expected") // not repeated: it may be a secret
		return nil, problems
	}
	return root.Children, nil
}
