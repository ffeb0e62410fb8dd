package hsmlink

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"moongate/client"
)

// TestOnlyThere: who may set a server's address and import its certificate does
// not learn the partition's password from an HSM of his own.
func TestOnlyThere(t *testing.T) {
	t.Parallel()
	ours, theirs, g := newHSM(t, "luna-1"), newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(ours))
	g.introduce(ours)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	// A renewal at the same address is no reason to ask.
	g.introduce(theirs)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.use(network(theirs))
	for range 2 {
		s := g.shows("luna-1", "login", CodeNoPassword, prompt)
		if s.Problem == nil || s.Problem.Fix == "" {
			t.Errorf("the problem is %+v", s.Problem)
		}
		if _, err := g.m.current().officerOf(g.m.current().modules[0], nil); err == nil {
			t.Error("the Crypto Officer's password is sent where the Crypto User's is not")
		}
		g.start() // nor after a restart
		g.use(network(theirs))
	}
	// Back where it was right, it is used.
	g.use(network(ours))
	g.shows("luna-1", StateAuthenticated, "", prompt)
	// Whoever knows the password decides.
	g.use(network(theirs))
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
}

// TestMaySend is the rule itself.
func TestMaySend(t *testing.T) {
	t.Parallel()
	const here, there = "192.0.2.1:1792", "192.0.2.2:1792"
	known, imported := Pin{Fingerprint: "known"}, Pin{Fingerprint: "new", Imported: time.Unix(1, 0)}
	for name, test := range map[string]struct {
		own, shared bool // the password; neither is one that an earlier version kept
		server      string
		address     string
		pins        []Pin
		want        bool
	}{
		"the same":                          {true, false, "a", here, []Pin{known}, true},
		"renewed at the same address":       {true, false, "a", here, []Pin{imported, known}, true},
		"moved":                             {true, false, "a", there, []Pin{known}, true},
		"another one":                       {true, false, "a", there, []Pin{imported}, false},
		"another one beside":                {true, false, "a", there, []Pin{imported, known}, false},
		"all servers', at a new one":        {false, true, "b", there, []Pin{imported}, false},
		"all servers', of a file":           {false, true, "b", there, []Pin{known}, true},
		"an earlier version's, for its own": {true, false, "b", there, []Pin{imported}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newGateway(t, nil).m.store
			a, of := passwordOf{"a", client.RoleCryptoOfficer}, passwordOf{test.server, client.RoleCryptoOfficer}
			must(t, s.proven(a, here, []string{known.Fingerprint}))
			if test.own {
				must(t, s.setPassword(of, []byte("own"), true))
			}
			if test.shared {
				must(t, os.WriteFile(filepath.Join(s.dir, sharedPassword), []byte("shared"), 0o600))
			}
			if err := s.maySend(of, test.address, test.pins); (err == nil) != test.want {
				t.Errorf("may be sent: %v, want %v", err, test.want)
			}
		})
	}
}
