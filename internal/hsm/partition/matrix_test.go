package partition

import (
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"moongate/internal/hsm/object"
)

// The role matrix: every act of a session, of the officers, of the Auditor and
// of the HSM itself, by every role, in every state of the HSM and of the
// partition that it is about. What must come of each is data (matrix_rows_test.go),
// each cell is asserted, and docs/roles.md shows the same.

// matrixRoles are the columns: whose password alone the caller knows. The first
// knows none.
var matrixRoles = []object.Role{
	object.RoleNone, object.RolePartitionOfficer, object.RoleCryptoOfficer, object.RoleCryptoUser,
	object.RoleSecurityOfficer, object.RoleAuditor,
}

// matrixStates are the groups of columns, and how each is made of an HSM that
// has been initialised and has an empty partition, p, assigned to client c.
var matrixStates = []struct {
	name  string
	title string
	make  func(*world, *fixture)
	// after is done to an HSM that callers have logged in to.
	after func(*world)
}{
	{"no HSM", "the HSM was zeroized, while everybody was logged in", makeWhole, func(w *world) { must(w.t, w.HSM.Zeroize(w.t.Context(), operator)) }},
	{"new", "the partition is not initialised", func(*world, *fixture) {}, nil},
	{"SO", "the partition has no Partition Security Officer: the Security Officer stands in", makeUsed, nil},
	{"whole", "every role is there, and officer-reset is on", makeWhole, nil},
	{"locked", "the same, and every role is locked that can be", func(w *world, f *fixture) { makeWhole(w, f); lockAll(w) }, nil},
}

// outcomes are a cell's letters.
var matrixOutcomes = map[byte]object.Code{
	'+': object.OK,
	'.': object.ErrNotLoggedIn,
	'U': object.ErrUserType,
	'I': object.ErrNotInitialized,
	'P': object.ErrPINNotInitialized,
	'W': object.ErrPINIncorrect,
	'K': object.ErrPINLocked,
	'X': object.ErrExists,
	'N': object.ErrObjectNotFound,
	'O': object.ErrPolicy,
	'D': object.ErrDataInvalid,
	'L': object.ErrUserAlreadyLoggedIn,
}

func letterOf(err error) string {
	for letter, code := range matrixOutcomes {
		if object.CodeOf(err) == code {
			return string(letter)
		}
	}
	return "?(" + err.Error() + ")"
}

// how much an act leaves behind, and by that in which HSM its cells are tried.
type effect int

const (
	harmless effect = iota // all in one
	alters                 // where it succeeds, in one of its own
	guesses                // also where it is refused: passwords are counted
)

type matrixRow struct {
	name   string // type and method
	effect effect
	do     func(*caller) error
	// want has a group for each state, with a letter for each role.
	want string
}

func (r matrixRow) cell(state, role int) byte { return strings.Fields(r.want)[state][role] }

// caller is one role's side of a cell: what its password gave it.
type caller struct {
	*world
	*fixture
	role object.Role
	pw   []byte
	who  Operator

	// session has tried to log in, second has not; either is nil until it is
	// asked for. everybody are all callers' sessions.
	session, second *Session
	everybody       []*Session

	// What the password opened, and why not; tried once.
	officer   *Officer
	noOfficer error
	po        *PartitionOfficer
	noPO      error
	au        *Auditor
	noAU      error

	forcer *Officer // the Security Officer, see force
}

func (c *caller) ctx() context.Context { return c.t.Context() }

var matrixPasswords = map[object.Role][]byte{
	object.RoleNone: wrongPassword, object.RolePartitionOfficer: poPassword, object.RoleCryptoOfficer: coPassword,
	object.RoleCryptoUser: cuPassword, object.RoleSecurityOfficer: soPassword, object.RoleAuditor: auPassword,
}

func (s *snapshot) call(w *world, role object.Role) *caller {
	return &caller{world: w, fixture: s.fixture, role: role, pw: matrixPasswords[role], who: Operator{Name: "as " + role.String(), From: "test"}}
}

func (c *caller) asSession() *Session {
	if c.session == nil {
		c.session = c.open()
		c.session.Login(c.ctx(), newOp(), c.role, c.pw)
	}
	return c.session
}

func (c *caller) asSecond() *Session {
	if c.second == nil {
		c.second = c.open()
	}
	return c.second
}

func (c *caller) asOfficer() (*Officer, error) {
	if c.officer == nil && c.noOfficer == nil {
		if c.officer, c.noOfficer = c.AuthenticateOfficer(c.ctx(), c.who, c.pw); c.Initialized() && c.noOfficer != nil {
			c.world.officer() // sets the count back
		}
	}
	return c.officer, c.noOfficer
}

func (c *caller) asPartitionOfficer() (*PartitionOfficer, error) {
	if c.po != nil || c.noPO != nil {
		return c.po, c.noPO
	}
	if c.role != object.RoleSecurityOfficer {
		c.po, c.noPO = c.AuthenticatePartitionOfficer(c.ctx(), c.who, "p", c.pw)
	} else if o, err := c.asOfficer(); err != nil {
		c.noPO = err
	} else {
		c.po, c.noPO = o.Partition("p")
	}
	return c.po, c.noPO
}

func (c *caller) asAuditor() (*Auditor, error) {
	if c.au == nil && c.noAU == nil {
		c.au, c.noAU = c.AuthenticateAuditor(c.ctx(), c.who, c.pw)
	}
	return c.au, c.noAU
}

// authenticate tries for everything. Where it was tried before, what was refused
// is tried again.
func (c *caller) authenticate() {
	c.noOfficer, c.noPO, c.noAU = nil, nil, nil
	c.asSession()
	c.asSecond()
	c.asOfficer()
	c.asPartitionOfficer()
	c.asAuditor()
}

func (c *caller) open() *Session {
	a, err := c.Attach(c.t.Context(), c.world.fingerprint, home)
	must(c.t, err)
	s, err := a.OpenSession("p")
	must(c.t, err)
	return s
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	rows := matrixRows()
	var cells atomic.Int64
	t.Run("states", func(t *testing.T) {
		for i, state := range matrixStates {
			t.Run(state.name, func(t *testing.T) {
				t.Parallel()
				cells.Add(int64(tryState(t, rows, i)))
			})
		}
		t.Run("policies", func(t *testing.T) {
			t.Parallel()
			cells.Add(int64(tryPolicies(t)))
		})
	})
	want := len(rows)*len(matrixStates)*len(matrixRoles) + len(policyRows())*len(matrixRoles)
	if cells.Load() != int64(want) {
		t.Errorf("%d cells were asserted, want %d", cells.Load(), want)
	}
	t.Logf("the role matrix: %d acts, %d states, %d roles, and %d acts under policies: %d cells", len(rows), len(matrixStates), len(matrixRoles), len(policyRows()), cells.Load())
}

func tryState(t *testing.T, rows []matrixRow, state int) int {
	at := matrixStates[state]
	snap := takeSnapshot(t, at.make)
	callers := func(roles ...object.Role) (*world, []*caller) {
		w := snap.world(t)
		var list []*caller
		for _, role := range roles {
			list = append(list, snap.call(w, role))
		}
		if at.after != nil {
			for _, c := range list {
				c.authenticate()
			}
			at.after(w)
			for _, c := range list {
				c.authenticate()
			}
		}
		return w, list
	}
	shared, all := callers(matrixRoles...)
	defer shared.close()
	cells := 0
	for _, row := range rows {
		got := ""
		for i, role := range matrixRoles {
			c := all[i]
			fresh := row.effect == guesses || row.effect == alters && row.cell(state, i) == '+'
			if fresh {
				_, own := callers(role)
				c = own[0]
			}
			got += letterOf(row.do(c))
			if fresh {
				c.close()
			}
			cells++
		}
		if want := strings.Fields(row.want)[state]; got != want {
			t.Errorf("%-34s %-7s got %s, want %s", row.name, at.name, got, want)
		}
	}
	return cells
}

// tryPolicies tries the acts that policies gate.
func tryPolicies(t *testing.T) int {
	snap := takeSnapshot(t, func(w *world, f *fixture) {
		makeWhole(w, f)
		s, err := w.on("p", object.RoleCryptoOfficer, coPassword)
		must(w.t, err)
		_, f.rsa, err = s.Generate(w.t.Context(), newOp(), rsaGen, rsa2048, object.New(object.Bool(object.AttrDecrypt, true)))
		must(w.t, err)
	})
	cells := 0
	for _, row := range policyRows() {
		w := snap.world(t)
		must(t, w.partitionOfficer().SetPolicy(t.Context(), object.PolicyValue{ID: row.policy, Value: row.value}))
		var all []*caller
		var sessions []*Session
		for _, role := range matrixRoles {
			c := snap.call(w, role)
			all, sessions = append(all, c), append(sessions, c.asSession())
		}
		got := ""
		for _, c := range all {
			c.everybody = sessions
			got += letterOf(row.do(c))
			cells++
		}
		if got != row.want {
			t.Errorf("%v=%d %s: got %s, want %s", row.policy, row.value, row.name, got, row.want)
		}
		w.close()
	}
	return cells
}

// TestMatrixHasEveryAct: a method that has no row fails here.
func TestMatrixHasEveryAct(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, row := range matrixRows() {
		if rows[row.name] {
			t.Errorf("%s has two rows", row.name)
		}
		rows[row.name] = true
		groups := strings.Fields(row.want)
		if len(groups) != len(matrixStates) {
			t.Errorf("%s has %d groups, want %d", row.name, len(groups), len(matrixStates))
		}
		for _, g := range groups {
			if len(g) != len(matrixRoles) || strings.ContainsFunc(g, func(r rune) bool { _, known := matrixOutcomes[byte(r)]; return !known }) {
				t.Errorf("%s has the group %q", row.name, g)
			}
		}
	}
	for name, typ := range map[string]reflect.Type{
		"Session": reflect.TypeFor[*Session](), "Officer": reflect.TypeFor[*Officer](), "Registrar": reflect.TypeFor[*Registrar](),
		"PartitionOfficer": reflect.TypeFor[*PartitionOfficer](), "Auditor": reflect.TypeFor[*Auditor](), "HSM": reflect.TypeFor[*HSM](),
	} {
		for i := range typ.NumMethod() {
			act := name + "." + typ.Method(i).Name
			found := matrixLeftOut[act]
			for row := range rows {
				if method, _, _ := strings.Cut(row, " "); method == act {
					found = true
					delete(rows, row)
				}
			}
			if !found {
				t.Errorf("%s has no row in the matrix", act)
			}
		}
	}
	for act := range rows {
		t.Errorf("the matrix has a row for %s, and there is no such method", act)
	}
}

// matrixLeftOut are no acts: they wire the HSM, or tell what it is called.
var matrixLeftOut = map[string]bool{"HSM.Close": true, "HSM.OnDisconnect": true, "HSM.Serial": true}
