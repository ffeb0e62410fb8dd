package object

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testGroup = Group{
	ID: ID{1, 2, 3}, Label: "moongate-ha", Serial: "1234567890123456", Epoch: 3,
	Members: []Member{
		{Serial: "11", HSM: HSMID{0xaa}, Name: "hsm-a", Address: "10.0.0.1:1792"},
		{Serial: "12", HSM: HSMID{0xbb}, Name: "hsm-b"},
	},
}

var testVector = Vector{{ReplicaID{1}, 3}, {ReplicaID{2}, 1 << 40}}

func TestReplicaWordsReturn(t *testing.T) {
	t.Parallel()
	trailer := []byte("rest")
	for _, g := range []Group{{}, testGroup} {
		got, rest, err := DecodeGroup(append(g.Append(nil), trailer...))
		if err != nil || !bytes.Equal(rest, trailer) {
			t.Fatalf("DecodeGroup: %q, %v", rest, err)
		}
		if diff := cmp.Diff(g, got); diff != "" {
			t.Errorf("group (-sent +got):\n%s", diff)
		}
	}
	for _, v := range []Vector{nil, testVector} {
		got, rest, err := DecodeVector(append(v.Append(nil), trailer...))
		if diff := cmp.Diff(v, got); diff != "" || err != nil || !bytes.Equal(rest, trailer) {
			t.Errorf("DecodeVector: %q, %v (-sent +got):\n%s", rest, err, diff)
		}
	}
	stamp := Stamp{Count: 7, Replica: ReplicaID{9}}
	if got, rest, err := DecodeStamp(append(stamp.Append(nil), trailer...)); got != stamp || err != nil || !bytes.Equal(rest, trailer) {
		t.Errorf("DecodeStamp: %v, %q, %v", got, rest, err)
	}
	for name, test := range map[string]struct {
		whole  []byte
		decode func([]byte) error
	}{
		"group":  {testGroup.Append(nil), func(b []byte) error { _, _, err := DecodeGroup(b); return err }},
		"vector": {testVector.Append(nil), func(b []byte) error { _, _, err := DecodeVector(b); return err }},
		"stamp":  {stamp.Append(nil), func(b []byte) error { _, _, err := DecodeStamp(b); return err }},
	} {
		for n := range test.whole {
			if test.decode(test.whole[:n]) == nil {
				t.Errorf("%s: %d of %d bytes are taken for the whole", name, n, len(test.whole))
			}
		}
	}
}

func TestVectorHasOneForm(t *testing.T) {
	t.Parallel()
	long := make(Vector, MaxVector+1)
	for i := range long {
		long[i] = Count{ReplicaID{byte(i)}, 1}
	}
	for name, test := range map[string]struct {
		v  Vector
		ok bool
	}{
		"longest":      {long[:MaxVector], true},
		"too long":     {long, false},
		"no changes":   {Vector{{ReplicaID{1}, 0}}, false},
		"doubled":      {Vector{{ReplicaID{1}, 1}, {ReplicaID{1}, 1}}, false},
		"out of order": {Vector{{ReplicaID{2}, 1}, {ReplicaID{1}, 1}}, false},
	} {
		if err := test.v.Check(); (err == nil) != test.ok {
			t.Errorf("%s: Check: %v", name, err)
		}
		if _, _, err := DecodeVector(test.v.Append(nil)); (err == nil) != test.ok {
			t.Errorf("%s: DecodeVector: %v", name, err)
		}
	}
}

func TestGroupCheckNamesTheField(t *testing.T) {
	t.Parallel()
	if err := testGroup.Check(); err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Group)) Group {
		g := testGroup
		g.Members = append([]Member(nil), testGroup.Members...)
		f(&g)
		return g
	}
	for says, g := range map[string]Group{
		"no ID":                    change(func(g *Group) { g.ID = ID{} }),
		"epoch is 0":               change(func(g *Group) { g.Epoch = 0 }),
		`label is ""`:              change(func(g *Group) { g.Label = "" }),
		`label is "xxx`:            change(func(g *Group) { g.Label = strings.Repeat("x", MaxGroupLabel+1) }),
		`label is "zwölf"`:         change(func(g *Group) { g.Label = "zwölf" }),
		"its serial number is":     change(func(g *Group) { g.Serial = "" }),
		"1 members":                change(func(g *Group) { g.Members = g.Members[:1] }),
		"17 members":               change(func(g *Group) { g.Members = make([]Member, MaxMembers+1) }),
		"names no HSM":             change(func(g *Group) { g.Members[1].HSM = HSMID{} }),
		"member 2 has serial":      change(func(g *Group) { g.Members[1].Serial = "" }),
		"member 1 has name":        change(func(g *Group) { g.Members[0].Name = "" }),
		"has address":              change(func(g *Group) { g.Members[0].Address = "\n" }),
		"are the same partition":   change(func(g *Group) { g.Members[1].HSM, g.Members[1].Serial = g.Members[0].HSM, g.Members[0].Serial }),
		`members are called "hsm-`: change(func(g *Group) { g.Members[1].Name = g.Members[0].Name }),
	} {
		err := g.Check()
		if !errors.Is(err, &Error{Code: ErrArgumentsBad}) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// FuzzReplicaWords decodes bytes as each word: what is taken encodes to the
// same bytes again.
func FuzzReplicaWords(f *testing.F) {
	f.Add(testGroup.Append(nil))
	f.Add(Group{}.Append(nil))
	f.Add(testVector.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if g, rest, err := DecodeGroup(in); err == nil {
			if again := append(g.Append(nil), rest...); !bytes.Equal(in, again) {
				t.Errorf("group %+v: %x became %x", g, in, again)
			}
		}
		if v, rest, err := DecodeVector(in); err == nil {
			if again := append(v.Append(nil), rest...); !bytes.Equal(in, again) {
				t.Errorf("vector %+v: %x became %x", v, in, again)
			}
		}
	})
}
