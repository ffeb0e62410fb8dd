package mech

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table in docs/mechanisms.md is written by
//
//	go test ./internal/hsm/mech -run Documentation -write
var write = flag.Bool("write", false, "write the table into docs/mechanisms.md")

const (
	tableBegin = "<!-- table: written by internal/hsm/mech -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

func TestDocumentationIsTheTable(t *testing.T) {
	t.Parallel()
	name := filepath.Join("..", "..", "..", "docs", "mechanisms.md")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(raw), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", name)
	}
	want := before + tableBegin + documentedTable() + tableEnd + after
	if *write {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func documentedTable() string {
	var out strings.Builder
	out.WriteString("| mechanism | does | with a key | bits | parameters | FIPS mode | standard |\n|---|---|---|---|---|---|---|\n")
	for i := range table {
		row := &table[i]
		var parameters []string
		for _, p := range row.parameters {
			parameters = append(parameters, parameterNames[p])
		}
		fips := "yes"
		if !row.Approved {
			fips = "**no**"
		}
		key := row.KeyType.String()
		if row.Class != secretKey {
			key += " " + row.Class.String()
		}
		fmt.Fprintf(&out, "| %v (0x%04x) | %v | %s | %s | %s | %s | %s |\n", row.Mechanism, uint32(row.Mechanism), row.Function,
			key, documentedSizes(row.Sizes), strings.Join(parameters, ", "), fips, row.Standard)
	}
	return out.String()
}

func documentedSizes(sizes []int) string {
	if len(sizes) > 8 {
		return fmt.Sprintf("%d to %d, whole bytes", sizes[0], sizes[len(sizes)-1])
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(sizes), " ", ", "), "[]")
}
