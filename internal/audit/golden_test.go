package audit

import (
	"os"
	"path/filepath"
	"testing"
)

// A directory that the first version of this package made opens as it is, and
// goes on.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, recoveries := range map[string]int64{"closed": 0, "crashed": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "one-segment", name))); err != nil {
				t.Fatal(err)
			}
			key, err := ReadVerifierKey(dir)
			if err != nil {
				t.Fatal(err)
			}
			if r := verify(t, dir, key); !r.OK() || r.Records != 25 {
				t.Fatalf("before it was opened: %+v", r)
			}
			before := readAll(t, dir, 0)
			opts := testOptions()
			opts.segmentBytes = 1000
			l := openTest(t, dir, opts)
			if _, anchored := l.Anchor(); anchored || l.VerifierKey() != key || l.Policy() != DefaultPolicy() {
				t.Errorf("policy %v, key %s", l.Policy(), l.VerifierKey())
			}
			for range 5 {
				appendN(t, l, 10)
				sign(t, l)
			}
			closeLog(t, l)
			r := verify(t, dir, key)
			if !r.OK() || r.Records != 75+recoveries || r.Recoveries != recoveries || r.Segments < 3 {
				t.Errorf("%+v", r)
			}
			after := readAll(t, dir, 0)
			for i, e := range before {
				if after[i] != e {
					t.Errorf("record %d is %+v, was %+v", i, after[i], e)
				}
			}
		})
	}
}
