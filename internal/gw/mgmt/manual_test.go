package mgmt

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"moongate/internal/gw/admin"
)

// TestManual: the table of roles in the manual is the one that is obeyed.
func TestManual(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../docs/gateway-administration.md")
	must(t, err)
	rows := 0
	for _, p := range admin.Permissions() {
		row := "| " + p.Does + " |"
		for _, role := range admin.Roles() {
			row += map[bool]string{true: " yes |", false: " |"}[role.May(p.Operation)]
		}
		if !strings.Contains(string(raw), "\n"+row+"\n") {
			t.Errorf("the manual lacks the row\n%s", row)
		}
		rows++
	}
	if n := strings.Count(string(raw), " yes | yes | yes |\n") + strings.Count(string(raw), " | | yes | yes |\n") + strings.Count(string(raw), " | | | yes |\n"); n != rows {
		t.Errorf("the manual has %d rows, the table %d", n, rows)
	}
	for _, port := range []int{2222, 4443, 9180} {
		if !strings.Contains(string(raw), fmt.Sprintf(":%d", port)) {
			t.Errorf("the manual does not name port %d", port)
		}
	}
}
