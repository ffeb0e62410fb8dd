package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt/mgmttest"
	"moongate/internal/gw/ops"
)

// operation is a row of the matrix: something that an administrator may ask
// for, by the API and by the command line.
type operation struct {
	name string
	// least is the role that may, written here by hand: a change of the table
	// of permissions is seen. needs is what it is called in that table, and "" of
	// what everybody may who has come in.
	least admin.Role
	needs admin.Operation
	// first is what is asked before needs, of which another role may be kept.
	first admin.Operation

	api   []string                  // parameters, in turn; "" values are left out
	file  func(*matrixWorld) []byte // of an import
	lines []string                  // of a script for the command line
	// says is what the answer holds for who may, where that is not success:
	// there is no such session, or no HSM, here.
	says string
	// only is the one way in that has the operation, "" for both; the other one
	// is asked for what comes nearest, and does not know it.
	only string

	before  func(w *matrixWorld) // arranges what it needs
	changes bool                 // it changes the state for who may
	spends  bool                 // it ends the caller's API keys
}

// visitor is a column: who asks.
type visitor struct {
	name, account string
	role          admin.Role // "" of who has no account
	credential    string     // of those: what they show
}

var visitors = []visitor{
	{name: "superuser", account: "admin", role: admin.Superuser},
	{name: "deviceadmin", account: "device", role: admin.DeviceAdmin},
	{name: "superreader", account: "reader", role: admin.SuperReader},
	{name: "nobody", account: "admin"},
	{name: "a wrong credential", account: "admin", credential: "LUFRPT1wYXNzd29yZA"},
}

// TestMatrix: each operation by each way in, by each role and by who has none.
// An answer that refuses has changed nothing.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := newMatrixWorld(t)
	rows := slices.Concat(configurationRows(), commandLineRows(), operationalRows())
	complete(t, w, rows)
	ways := []way{{"API", byAPI}, {"CLI", byCLI}}
	cells, allowed, lacking := 0, 0, 0
	for _, row := range rows {
		for _, way := range ways {
			here := row
			has := row.only == "" || row.only == way.name
			if !has { // whoever has come in is told so
				here.least, here.says = admin.SuperReader, notKnown
			}
			for _, who := range visitors {
				w.reset()
				if row.before != nil {
					row.before(w)
				}
				before := w.state()
				if err := way.ask(w, here, who); err != nil {
					t.Errorf("%s by %s as %s: %v", row.name, way.name, who.name, err)
				}
				may := has && here.may(who)
				switch changed := w.state() != before; {
				case changed && !(may && row.changes):
					t.Errorf("%s by %s as %s has changed the state", row.name, way.name, who.name)
				case !changed && may && row.changes:
					t.Errorf("%s by %s as %s has changed nothing", row.name, way.name, who.name)
				}
				if row.spends {
					clear(w.keys)
				}
				cells++
				switch {
				case may:
					allowed++
				case !has:
					lacking++
				}
			}
		}
	}
	t.Logf("%d cells (%d operations, %d ways in, %d visitors): %d allowed, %d refused, %d of a way that lacks the operation",
		cells, len(rows), len(ways), len(visitors), allowed, cells-allowed-lacking, lacking)
}

// way is a way in.
type way struct {
	name string
	ask  func(*matrixWorld, operation, visitor) error
}

// notKnown is how a way says that it does not have an operation.
const notKnown = "is unexpected"

// may is what is expected of a cell.
func (o operation) may(who visitor) bool {
	order := []admin.Role{admin.SuperReader, admin.DeviceAdmin, admin.Superuser}
	return who.role != "" && slices.Index(order, who.role) >= slices.Index(order, o.least)
}

// refusal matches what a role is told that may not.
func (o operation) refusal(who visitor) string {
	needs := o.needs
	if o.first != "" && !who.role.May(o.first) {
		needs = o.first
	}
	return "the role " + string(who.role) + " may not " + needs.Describe()
}

func byAPI(w *matrixWorld, o operation, who visitor) error {
	var file []byte
	if o.file != nil {
		file = o.file(w)
	}
	status, answer := w.send(who, o.api, file)
	switch {
	case who.role == "":
		if status != 403 || !strings.HasPrefix(answer, `<response status="error" code="403"><result><msg>Invalid Credential`) {
			return fmt.Errorf("API: %d %s; want 403 and Invalid Credential", status, answer)
		}
	case o.may(who) && o.says != "":
		if status != 200 || !strings.Contains(answer, o.says) {
			return fmt.Errorf("API: %d %s; want %q", status, answer, o.says)
		}
	case o.may(who):
		if status != 200 || strings.Contains(answer, `status="error"`) {
			return fmt.Errorf("API: %d %s; want success", status, answer)
		}
	case status != 200 || !strings.HasPrefix(answer, `<response status="error" code="15">`) || !strings.Contains(answer, o.refusal(who)):
		return fmt.Errorf("API: %d %s; want code 15 and %q", status, answer, o.refusal(who))
	}
	return nil
}

func byCLI(w *matrixWorld, o operation, who visitor) error {
	if who.role == "" {
		if c, err := w.dial(who); err == nil {
			c.Close()
			return fmt.Errorf("CLI: has come in")
		} else if !strings.Contains(err.Error(), "unable to authenticate") {
			return fmt.Errorf("CLI: %w; want to be refused the login", err)
		}
		return nil
	}
	out := w.types(who, o.lines)
	switch {
	case o.may(who) && o.says != "":
		if !strings.Contains(out, o.says) {
			return fmt.Errorf("CLI: %s; want %q", out, o.says)
		}
	case o.may(who):
		if strings.Contains(out, "Error") {
			return fmt.Errorf("CLI: %s; want success", out)
		}
	case !strings.Contains(out, "Error: "+o.refusal(who)):
		return fmt.Errorf("CLI: %s; want %q", out, o.refusal(who))
	}
	return nil
}

// complete reports what has no row: a command, an action, a type, a word of the
// configuration mode, an operation of the table of permissions; and what the
// table says otherwise than the rows.
func complete(t *testing.T, w *matrixWorld, rows []operation) {
	t.Helper()
	has := func(match func(operation) bool, what string) {
		t.Helper()
		if !slices.ContainsFunc(rows, match) {
			t.Errorf("the matrix has no row for %s", what)
		}
	}
	for _, c := range ops.Commands() {
		has(func(o operation) bool { return o.name == c.Words }, c.Words)
	}
	expected := func(answer string) []string {
		t.Helper()
		found := regexp.MustCompile(`expected one of ([a-z, -]+)`).FindStringSubmatch(answer)
		if found == nil {
			t.Fatalf("no list of what is expected in %s", answer)
		}
		return strings.Split(strings.TrimSpace(found[1]), ", ")
	}
	root := visitors[0]
	_, answer := w.send(root, []string{"type", "nothing"}, nil)
	for _, kind := range expected(answer) {
		has(func(o operation) bool { return param(o, "type") == kind }, "type="+kind)
	}
	_, answer = w.send(root, []string{"type", "config", "action", "nothing", "xpath", "/config"}, nil)
	for _, action := range expected(answer) {
		has(func(o operation) bool { return param(o, "action") == action }, "action="+action)
	}
	for _, word := range expected(w.types(root, []string{"configure", "zzz"})) {
		has(func(o operation) bool {
			return len(o.lines) > 1 && o.lines[0] == "configure" && strings.Fields(o.lines[1])[0] == word
		}, "configure, "+word)
	}
	// Those are the console's, or of mgmt alone, whose own matrix has them.
	elsewhere := map[admin.Operation]bool{admin.OpBackup: true, admin.OpStopJob: true}
	for _, p := range admin.Permissions() {
		reached := slices.ContainsFunc(rows, func(o operation) bool { return o.needs == p.Operation })
		if elsewhere[p.Operation] == reached {
			t.Errorf("the matrix has a row for %s: %v, and it is to be done elsewhere: %v", p.Operation, reached, elsewhere[p.Operation])
		}
		for _, o := range rows {
			if o.needs == p.Operation && o.least != p.Least {
				t.Errorf("%s: the table of permissions says %s, the matrix %s", o.name, p.Least, o.least)
			}
		}
	}
	for name := range mgmttest.People {
		if name != "second" && !slices.ContainsFunc(visitors, func(v visitor) bool { return v.account == name }) {
			t.Errorf("the matrix has no column for %s", name)
		}
	}
}

func param(o operation, name string) string {
	for i := 0; i+1 < len(o.api); i += 2 {
		if o.api[i] == name {
			return o.api[i+1]
		}
	}
	return ""
}
