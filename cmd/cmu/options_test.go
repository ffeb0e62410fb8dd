package main

import (
	"os"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"modulusBits", "publicExp", "label", "labelPublic", "sign"}
	for typed, want := range map[string]string{
		"modulusbit":     "modulusBits",
		"MODULUS":        "modulusBits",
		"modulsBits":     "modulusBits",
		"pubExp":         "publicExp",
		"labl":           "label",
		"label-public":   "labelPublic",
		"sing":           "sign",
		"somethingElse1": "",
		"q":              "",
	} {
		if got := nearest(typed, words); got != want {
			t.Errorf("nearest to %q is %q, want %q", typed, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"sign", "sing", 2},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// TestOptionNamesAreDistinct keeps the table free of what parse could not tell
// apart.
func TestOptionNamesAreDistinct(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		for i := range c.options {
			o := &c.options[i]
			for _, name := range append([]string{o.name}, o.aliases...) {
				if found, err := c.option(name); err != nil || found != o {
					t.Errorf("%s: -%s finds another option, %v", c.name, name, err)
				}
			}
			if o.help == "" {
				t.Errorf("%s: -%s has no help", c.name, o.name)
			}
		}
	}
}

// TestManualHasEveryCommand: docs/cmu.md names each one.
func TestManualHasEveryCommand(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/cmu.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		if !strings.Contains(string(raw), "cmu "+c.name) && !strings.Contains(string(raw), "`"+c.name) {
			t.Errorf("docs/cmu.md does not name %s", c.name)
		}
	}
}
