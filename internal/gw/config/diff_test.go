package config

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// twoTrees is a tree and another with a change of every kind.
func twoTrees(t testing.TB) (before, after *Node) {
	t.Helper()
	system := DevicePath + "/deviceconfig/system"
	before = applied(t, threeRules(t),
		Edit{Op: OpSet, Path: system, Elements: elements(t, `<hostname>old</hostname>`)},
		Edit{Op: OpSet, Path: certPath("ca"), Elements: elements(t, `<private-key>`+someSecret+`</private-key>`)},
		Edit{Op: OpSet, Path: below(usersPath, "admin"), Elements: elements(t, `<phash>`+someHash+`</phash>`)},
	)
	after = applied(t, before,
		Edit{Op: OpSet, Path: system, Elements: elements(t, `<hostname>new</hostname>`)},
		Edit{Op: OpSet, Path: certPath("ca"), Elements: elements(t, `<private-key>`+someSecret+`AAAA</private-key><status>revoked</status>`)},
		Edit{Op: OpDelete, Path: below(usersPath, "admin")},
		Edit{Op: OpMove, Path: rulePath("c"), Where: Top},
		Edit{Op: OpDelete, Path: rulePath("a") + "/source/member[text()='10.0.0.1']"},
		Edit{Op: OpSet, Path: rulePath("a") + "/source", Elements: elements(t, `<member>10.0.0.3</member>`)},
		Edit{Op: OpSet, Path: rulePath("new one"), Elements: elements(t, `<action>decrypt</action><source><member>any</member></source><description>two
lines</description>`)},
	)
	return before, after
}

func TestDiff(t *testing.T) {
	t.Parallel()
	before, after := twoTrees(t)
	want := []Change{
		{below(usersPath, "admin"), Removed, `<entry name="admin"><phash>********</phash></entry>`, ""},
		{certPath("ca") + "/private-key", Changed, "********", "********"},
		{certPath("ca") + "/status", Added, "", "revoked"},
		{DevicePath + "/deviceconfig/system/hostname", Changed, "old", "new"},
		{rulePath("c"), Moved, `after "b"`, "first"},
		{rulePath("a") + "/source/member[text()='10.0.0.1']", Removed, "10.0.0.1", ""},
		{rulePath("a") + "/source/member[text()='10.0.0.3']", Added, "", "10.0.0.3"},
		{rulePath("new one"), Added, "", `<entry name="new one"><action>decrypt</action><source><member>any</member></source><description>two
lines</description></entry>`},
	}
	if diff := cmp.Diff(want, Diff(before, after)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	again, err := Decode(Encode(after))
	if err != nil {
		t.Fatal(err)
	}
	if changes := Diff(after, again); len(changes) > 0 || FormatDiff(after, again) != "" || !Equal(after, again) || Equal(before, after) {
		t.Errorf("a tree and itself: %v", changes)
	}
}

func TestFormatDiff(t *testing.T) {
	t.Parallel()
	before, after := twoTrees(t)
	want := `  mgt-config {
    users {
-     admin {
-       phash ********;
-     }
    }
  }
  shared {
    certificate {
      ca {
-       private-key ********;
+       private-key ********;
+       status revoked;
      }
    }
  }
  devices {
    localhost.localdomain {
      deviceconfig {
        system {
-         hostname old;
+         hostname new;
        }
      }
      vsys {
        vsys1 {
          rulebase {
            decryption {
              rules {
!               c; # moved first, was after "b"
                a {
                  source [
-                   10.0.0.1;
+                   10.0.0.3;
                  ];
                }
+               "new one" {
+                 action decrypt;
+                 source [
+                   any;
+                 ];
+                 description "two\nlines";
+               }
              }
            }
          }
        }
      }
    }
  }
`
	if diff := cmp.Diff(want, FormatDiff(before, after)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

// As few entries are moved as can explain the order.
func TestDiffMovesFew(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	root := manyRules(t, 50)
	after := root
	for range 3 {
		after = applied(t, after, Edit{Op: OpMove, Path: rulePath(ruleName(random.IntN(50))), Where: []string{Top, Bottom}[random.IntN(2)]})
	}
	changes := Diff(root, after)
	if len(changes) == 0 || len(changes) > 3 {
		t.Errorf("three moves look like %d: %v", len(changes), changes)
	}
	for _, c := range changes {
		if c.Kind != Moved {
			t.Errorf("%+v", c)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	_, after := twoTrees(t)
	text := string(Encode(Mask(after)))
	if strings.Contains(text, someSecret) || !strings.Contains(text, "<private-key>********</private-key>") || !strings.Contains(text, "<hostname>new</hostname>") {
		t.Errorf("masked: %s", text)
	}
	if !strings.Contains(string(Encode(after)), someSecret) {
		t.Error("Mask wrote to the tree")
	}
	for path, want := range map[string]string{
		certPath("ca"):                  `<entry name="ca"><private-key>********</private-key><status>revoked</status></entry>`,
		certPath("ca") + "/private-key": `<private-key>********</private-key>`,
		certPath("ca") + "/*":           `<private-key>********</private-key><status>********</status>`, // nothing is known of *
		certPath("ca") + "/status":      `<status>revoked</status>`,
	} {
		nodes, err := Select(after, path)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, n := range nodes {
			got.WriteString(Compact(MaskAt(path, n)))
		}
		if got.String() != want {
			t.Errorf("%s: %s, want %s", path, got.String(), want)
		}
	}
	// What was shown cannot be set.
	shown := []*Node{{Name: "private-key", Text: masked}}
	if _, err := Apply(after, Edit{Op: OpSet, Path: certPath("ca"), Elements: shown}); err == nil {
		t.Error("a masked secret was set")
	}
}
