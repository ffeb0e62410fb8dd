package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// Two administrators can have one form open. What it was filled from is marked
// in it, so that who presses OK last is told of what he would undo.

// seen is the field that has the mark.
const seen = "seen"

// mark tells one state of elements from another.
func mark(of ...tree) string {
	sum := sha256.New()
	for _, t := range of {
		if t.there() {
			sum.Write(config.Encode(t.node))
		}
		sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Unchanged refuses a form that was filled from something else than what is
// there now. Pressing OK again is meant.
func (f *Form) Unchanged(now ...tree) {
	is := mark(now...)
	if was := f.Text(seen); was != "" && was != is {
		f.Add("Somebody else has changed or deleted this meanwhile. OK puts what is below in its place; Cancel leaves it.")
	}
	f.values.Set(seen, is)
}

// existing reads an entry that an address names.
func (v *visit) existing(what, list, name string) (tree, error) {
	at, err := v.candidate(list + "/" + config.EntryStep(name))
	if err == nil && !at.there() {
		err = &mgmt.Error{Code: mgmt.CodeNotFound, Lines: []string{fmt.Sprintf("There is no %s %q in the candidate configuration: somebody may have deleted or renamed it.", what, name)}}
	}
	return at, err
}

// maxLines bounds a difference on a page.
const maxLines = 2000

// firstLines is the beginning of a text, and how many lines it has more.
func firstLines(text string) (string, int) {
	end := 0
	for range maxLines {
		n := strings.IndexByte(text[end:], '\n')
		if n < 0 {
			return text, 0
		}
		end += n + 1
	}
	return text[:end], strings.Count(text[end:], "\n")
}
