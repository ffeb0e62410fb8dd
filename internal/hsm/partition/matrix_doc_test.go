package partition

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const rolesPage = "../../../docs/roles.md"

// TestMatrixIsDocumented: docs/roles.md shows the matrix as it is. Run with
// UPDATE_DOCS=1 to write it.
func TestMatrixIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(rolesPage)
	must(t, err)
	before, rest, begun := bytes.Cut(page, []byte("<!-- begin matrix -->\n"))
	shown, after, ended := bytes.Cut(rest, []byte("<!-- end matrix -->\n"))
	if !begun || !ended {
		t.Fatalf("%s has no place for the matrix", rolesPage)
	}
	want := renderMatrix()
	if os.Getenv("UPDATE_DOCS") != "" {
		must(t, os.WriteFile(rolesPage, slices.Concat(before, []byte("<!-- begin matrix -->\n"+want+"<!-- end matrix -->\n"), after), 0o644))
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(shown), "\n")); diff != "" {
		t.Errorf("%s is not what the matrix says (UPDATE_DOCS=1 writes it):\n%s", rolesPage, diff)
	}
}

func renderMatrix() string {
	var b strings.Builder
	rows := matrixRows()
	fmt.Fprintf(&b, "%d acts in %d states by %d roles, and %d acts under policies: %d cells. A group of letters is a state, a letter in it is\n",
		len(rows), len(matrixStates), len(matrixRoles), len(policyRows()), (len(rows)*len(matrixStates)+len(policyRows()))*len(matrixRoles))
	b.WriteString("what comes of the act for somebody who knows the password of no role")
	for _, role := range matrixRoles[1:] {
		fmt.Fprintf(&b, ", `%v`", role)
	}
	b.WriteString(", in this order.\n\n| state | |\n|---|---|\n")
	for _, s := range matrixStates {
		fmt.Fprintf(&b, "| %s | %s |\n", s.name, s.title)
	}
	b.WriteString("\n| letter | |\n|---|---|\n")
	var letters []byte
	for letter := range matrixOutcomes {
		letters = append(letters, letter)
	}
	slices.Sort(letters)
	for _, letter := range letters {
		text := matrixOutcomes[letter].String()
		if letter == '+' {
			text = "done"
		}
		fmt.Fprintf(&b, "| `%c` | %s |\n", letter, text)
	}
	kind := ""
	for _, row := range rows {
		typ, act, _ := strings.Cut(row.name, ".")
		if typ != kind && !(kind == "Officer" && typ == "Registrar") && !(kind == "Registrar" && typ == "Officer") {
			fmt.Fprintf(&b, "\n| %s |", typ)
			for _, s := range matrixStates {
				fmt.Fprintf(&b, " %s |", s.name)
			}
			b.WriteString("\n|---|" + strings.Repeat("---|", len(matrixStates)) + "\n")
		}
		if kind = typ; typ == "Registrar" || typ == "Officer" {
			act = row.name
		}
		fmt.Fprintf(&b, "| %s |", act)
		for _, group := range strings.Fields(row.want) {
			fmt.Fprintf(&b, " `%s` |", group)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n| policy | act, in state whole | |\n|---|---|---|\n")
	for _, row := range policyRows() {
		info, _ := row.policy.Info()
		fmt.Fprintf(&b, "| %s %s | %s | `%s` |\n", info.Name, info.Format(row.value), row.name, row.want)
	}
	return b.String()
}
