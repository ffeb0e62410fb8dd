package revision

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
)

const (
	manyRules = 10_000
	rulesPath = config.VsysPath + "/rulebase/decryption/rules"
)

// withManyRules is a store whose candidate has ten thousand rules.
func withManyRules(b *testing.B) *Store {
	b.Helper()
	s := open(b, options(filepath.Join(b.TempDir(), "config")))
	var text strings.Builder
	for i := range manyRules {
		fmt.Fprintf(&text, `<entry name="rule %d"><action>no-decrypt</action><source><member>10.%d.%d.0/24</member></source>
			<destination><member>any</member></destination><destination-host><member>host-%d.example</member></destination-host>
			<service><member>service-https</member></service><disabled>no</disabled><description>one among many</description></entry>`,
			i, i>>8, i&0xff, i)
	}
	rules, err := config.ParseFragment([]byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Edit(b.Context(), 0, config.Edit{Op: config.OpSet, Path: rulesPath, Elements: rules}); err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkCommit is compiling ten thousand rules and making them run.
func BenchmarkCommit(b *testing.B) {
	s := withManyRules(b)
	for b.Loop() {
		root, _ := s.Candidate()
		if _, _, err := config.Compile(root, time.Now()); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Commit(b.Context(), Meta{Admin: "ann", At: time.Now()}, root, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is a start with ten thousand rules.
func BenchmarkOpen(b *testing.B) {
	s := withManyRules(b)
	root, _ := s.Candidate()
	if _, err := s.Commit(b.Context(), Meta{Admin: "ann", At: time.Now()}, root, time.Time{}); err != nil {
		b.Fatal(err)
	}
	dir := s.backend.(*Files).dir
	for b.Loop() {
		open(b, options(dir))
	}
}
