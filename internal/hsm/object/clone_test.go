package object

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWholeTemplates(t *testing.T) {
	t.Parallel()
	key := Defaults(ClassPrivateKey).Merge(New(Number(AttrKeyType, uint64(KeyEC)), Number(AttrCreated, 5), Bool(AttrLocal, true)))
	if err := key.CheckWhole(); err != nil {
		t.Errorf("a whole key: %v", err)
	}
	for name, c := range map[string]struct {
		t    Template
		want Code
	}{
		"no class":            {key.Without(AttrClass), ErrTemplateInconsist},
		"an unknown class":    {key.With(Number(AttrClass, 99)), ErrTemplateInconsist},
		"a handle":            {key.With(Number(AttrHandle, 1)), ErrAttributeReadOnly},
		"uses":                {key.With(Number(AttrUses, 1)), ErrAttributeReadOnly},
		"another class's":     {key.With(Bytes(AttrECPoint, nil)), ErrTemplateInconsist},
		"two uses":            {key.With(Bool(AttrUnwrap, true)), ErrTemplateInconsist},
		"not sensitive":       {key.With(Bool(AttrSensitive, false)), ErrTemplateInconsist},
		"a session's":         {key.With(Bool(AttrToken, false)), ErrTemplateInconsist},
		"a malformed boolean": {key.With(Bytes(AttrDerive, []byte{2})), ErrAttributeValue},
	} {
		if err := c.t.CheckWhole(); CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestFixedIsWhatNoChangeChanges: the two rules agree, attribute by attribute.
func TestFixedIsWhatNoChangeChanges(t *testing.T) {
	t.Parallel()
	for _, typ := range AttributeTypes() {
		whole := New(Attribute{Type: typ})
		if kept, may := len(whole.Fixed()) == 1, attributes[typ].modifiable; kept == may {
			t.Errorf("%v: fixed is %v, and it may be changed: %v", typ, kept, may)
		}
	}
	t1 := New(Text(AttrLabel, "a"), Number(AttrClass, 3))
	if diff := cmp.Diff(New(Number(AttrClass, 3)), t1.Fixed()); diff != "" || len(t1) != 2 {
		t.Errorf("fixed (-want +got):\n%s", diff)
	}
}

func TestGroupsSupersede(t *testing.T) {
	t.Parallel()
	group := func(epoch uint64, label string) Group {
		return Group{ID: ID{1}, Label: label, Serial: "1", Epoch: epoch, Members: []Member{{Serial: "1", HSM: HSMID{1}, Name: "a"}, {Serial: "2", HSM: HSMID{2}, Name: "b"}}}
	}
	for _, c := range []struct {
		a, b Group
		want bool
	}{
		{group(2, "a"), group(1, "z"), true},
		{group(1, "z"), group(2, "a"), false},
		{group(1, "b"), group(1, "a"), true},
		{group(1, "a"), group(1, "b"), false},
		{group(1, "a"), group(1, "a"), false},
	} {
		if got := c.a.Supersedes(c.b); got != c.want {
			t.Errorf("epoch %d of %q over epoch %d of %q: %v", c.a.Epoch, c.a.Label, c.b.Epoch, c.b.Label, got)
		}
	}
}

func TestCloneOutcomesHaveNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for o := CloneAdded; o <= CloneRefused; o++ {
		if name := o.String(); name == "unknown" || seen[name] {
			t.Errorf("outcome %d is %q", o, name)
		} else {
			seen[name] = true
		}
	}
	if CloneOutcome(0).String() != "unknown" {
		t.Error("no outcome has a name")
	}
}
