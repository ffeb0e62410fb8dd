package ha

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// Words of the HSM's that appear in this package's API.
type (
	ID        = object.ID
	HSMID     = object.HSMID
	Record    = object.Group  // of a group, as each of its partitions keeps it
	RecordOf  = object.Member // one partition of a Record
	ReplicaID = object.ReplicaID
	Stamp     = object.Stamp
)

// MaxRetry bounds Config.Retry.
const MaxRetry = 500

// Config says which HSMs are one group, and how patient to be with each. Zero
// times are the defaults that stand beside them.
type Config struct {
	// Label is the group's name, 1 to 31 bytes of printable ASCII. A record with
	// another label is not this group's.
	Label string
	// Members are 2 to 16, each the same partition role of another HSM. In their
	// order Create writes them into the record; from then on the record's order
	// counts. One that the record does not name is not used, and says so.
	Members []Member
	// Retry is the Auto Recovery Retry, 0 to 500: how often a lost connection is
	// tried again before the calls that were on it go to another member. They wait
	// for no more than half of the time that they have left. New calls go to
	// members that are connected, whatever Retry says.
	Retry int
	// NoReturn keeps a member that was lost from coming back by itself: Recover
	// brings it back. Otherwise members always return, also when nobody calls.
	NoReturn bool

	// Hedge is how long a call that is safe to repeat waits for one member until
	// another one is asked as well; 500 ms.
	Hedge time.Duration
	// Probe is how often a member of which nothing is heard is asked whether it
	// is there; 1 s. Contents are compared every fifth time.
	Probe time.Duration

	// StateFile is where the group's record is remembered, so that a member that
	// was removed is known as such when no other one can be reached; empty is
	// nowhere. It is replaced atomically; several processes may share it.
	StateFile string

	// Logger receives each change of a member's state, with its reason; nil is
	// none.
	Logger *slog.Logger
	// Registerer receives the group's metrics, all of them moongate_ha_...; nil is
	// none. One registerer serves one group; wrap it by prometheus.WrapRegistererWith for more.
	Registerer prometheus.Registerer
	// Now is the clock of what is shown to people; nil is time.Now. How long to
	// wait for something never depends on it.
	Now func() time.Time
}

// Member is one partition on one HSM.
type Member struct {
	// Name is for people: 1 to 64 bytes of printable ASCII, unlike the others'.
	Name string
	// Config is how to reach it. All members log in as the same role. Its
	// NoWait is set, and its KeepAlive (5 s), ConnectTimeout (3 s) and MaxBackoff
	// (1 s) have shorter defaults than those of a client.Client alone, since there
	// is somewhere else to go. Its Logger is the group's unless it has one.
	client.Config
}

// SetRole makes all members log in as a role; password is for those that have
// none of their own.
func (c *Config) SetRole(role client.Role, password func() ([]byte, error)) {
	for i := range c.Members {
		c.Members[i].Role = role
		if c.Members[i].Password == nil {
			c.Members[i].Password = password
		}
	}
}

const (
	defaultHedge = 500 * time.Millisecond
	defaultProbe = time.Second

	memberKeepAlive      = 5 * time.Second
	memberConnectTimeout = 3 * time.Second
	memberMaxBackoff     = time.Second

	defaultCallTimeout = 30 * time.Second
	maxName            = object.MaxMemberName
)

// check refuses a configuration that cannot work, and fills in defaults.
func (c *Config) check() error {
	if err := checkText("label", c.Label, object.MaxGroupLabel); err != nil {
		return err
	}
	if n := len(c.Members); n < object.MinMembers || n > object.MaxMembers {
		return fmt.Errorf("HA configuration: %d members, expected %d to %d", n, object.MinMembers, object.MaxMembers)
	}
	if c.Retry < 0 || c.Retry > MaxRetry {
		return fmt.Errorf("HA configuration: retry is %d, expected 0 to %d", c.Retry, MaxRetry)
	}
	names := map[string]bool{}
	for i := range c.Members {
		m := &c.Members[i]
		if err := m.check(); err != nil {
			return err
		}
		if names[m.Name] {
			return fmt.Errorf("HA configuration: two members have the name %q; give each its own", m.Name)
		}
		names[m.Name] = true
		if m.Role != c.Members[0].Role {
			return fmt.Errorf("HA configuration: member %q logs in as %v, member %q as %v; all should have one role",
				c.Members[0].Name, c.Members[0].Role, m.Name, m.Role)
		}
	}
	if c.Hedge <= 0 {
		c.Hedge = defaultHedge
	}
	if c.Probe <= 0 {
		c.Probe = defaultProbe
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// check refuses a member that cannot work, and fills in defaults.
func (m *Member) check() error {
	if err := checkText("a member's name", m.Name, maxName); err != nil {
		return err
	}
	if m.Address == "" {
		return fmt.Errorf("HA configuration: member %q has no address", m.Name)
	}
	switch m.Role {
	case client.RoleCryptoOfficer, client.RoleCryptoUser:
	default:
		return fmt.Errorf("HA configuration: member %q logs in as %v; a group needs the Crypto Officer or the Crypto User", m.Name, m.Role)
	}
	m.NoWait = true
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&m.KeepAlive, memberKeepAlive},
		{&m.ConnectTimeout, memberConnectTimeout},
		{&m.MaxBackoff, memberMaxBackoff},
		{&m.CallTimeout, defaultCallTimeout},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	return nil
}

func checkText(field, text string, limit int) error {
	if text == "" || len(text) > limit {
		return fmt.Errorf("HA configuration: %s %q has %d bytes, expected 1 to %d", field, text, len(text), limit)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("HA configuration: %s %q is not printable ASCII", field, text)
	}
	return nil
}

// ErrClosed is the error of calls on a Group after its Close.
var ErrClosed = client.ErrClosed

var errNotOfficer = errors.New("copying keys between HSMs needs the Crypto Officer")
