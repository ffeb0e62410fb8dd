package hsmlink

import (
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
)

// StageName is a step on the way from a server's name to its keys.
type StageName string

const (
	StageHost       StageName = "name"       // the host name resolves
	StageTCP        StageName = "tcp"        // the port answers
	StageTLS        StageName = "tls"        // it is the HSM whose certificate is pinned
	StageRegistered StageName = "registered" // it knows the gateway's certificate and address
	StageAssigned   StageName = "assigned"   // a partition is the gateway's to use
	StageLogin      StageName = "login"      // the partition's password is right
	StageKeys       StageName = "keys"       // the keys that certificates need are there
)

// Stages are the steps in their order.
var Stages = []StageName{StageHost, StageTCP, StageTLS, StageRegistered, StageAssigned, StageLogin, StageKeys}

// Level is how a stage stands.
type Level string

const (
	Green   Level = "green"
	Red     Level = "red"
	Waiting Level = "waiting" // not reached, or not known yet
)

// Problem is what is wrong, why, and what to do about it. None of it holds a
// secret.
type Problem struct {
	Code   Code
	Reason string
	Fix    string // may be empty
}

func (p *Problem) String() string {
	if p.Fix == "" {
		return p.Reason
	}
	return p.Reason + "; " + p.Fix
}

// Stage is how one step stands.
type Stage struct {
	Name    StageName
	Level   Level
	Since   time.Time // when Level or the problem's code last changed
	Detail  string    // what was found where it is green; may be empty
	Problem *Problem  // of a red one
}

// StateAuthenticated is the state of a server whose steps as far as the login
// are green.
const StateAuthenticated = "Authenticated"

// ServerStatus is how one server stands, or the module of a token.
type ServerStatus struct {
	Name    string
	Address string // host:port; of a module its file
	// State is StateAuthenticated, or the name of the step that fails or is
	// waited for.
	State string
	Since time.Time // when State last changed
	// Problem is that of the first red stage; nil without one.
	Problem *Problem
	Stages  []Stage // all of Stages, in their order
	// Serving: keys on it are used. In a group every live member serves.
	Serving bool

	Serial    string // the partition's; empty unless authenticated
	Partition string // its label; empty unless authenticated
	HSMSerial string
	Software  string
	Protocol  uint16
	Role      string // as which the gateway logs in; empty where it cannot yet

	Pins    []Pin // the server certificates that are accepted
	HostKey string
	// Member is how it stands in the group; nil outside of one.
	Member *ha.MemberStatus
	// MissingKeys are the certificates whose private keys it lacks, and
	// MissingWrapping the wrapping keys that another member has.
	MissingKeys     []string
	MissingWrapping []string

	keys int // that certificates need, and that it has
}

// GroupState is how the servers stand as a group.
type GroupState string

const (
	GroupNone       GroupState = ""            // none is configured
	GroupNotCreated GroupState = "not created" // `request hsm ha create-ha-group` was not given yet
	GroupWhole      GroupState = "whole"       // all members are live
	GroupDegraded   GroupState = "degraded"    // some are
	GroupLost       GroupState = "lost"        // none is
)

// GroupStatus is the group's.
type GroupStatus struct {
	Name  string
	State GroupState
	Retry int
	// Record is what the members keep of the group; Epoch 0 while none is known.
	Record  ha.Record
	Problem *Problem
	// Unconfigured are the members of the record that the configuration does not
	// name, Unrecorded the servers of the configuration that the record does not.
	Unconfigured, Unrecorded []string
	Conflicts                []ha.Conflict
}

// SourceStatus is where connections leave from.
type SourceStatus struct {
	Interface string
	Address   string // empty while it is not known
	Dynamic   bool   // it was leased, and may change
	Problem   *Problem
}

// Status is how everything stands. It is as old as At says, and was never
// waited for.
type Status struct {
	At       time.Time
	Provider config.HSMProvider // "" without an HSM
	Servers  []ServerStatus     // in the configuration's order
	Group    *GroupStatus       // nil without ha
	Source   SourceStatus
	// Client are the gateway's own certificates: the one in use, and after a
	// renewal the next one.
	Client []ClientCertificate
}

// Age is how old the status is.
func (s Status) Age(now time.Time) time.Duration { return max(0, now.Sub(s.At)) }

// Ready reports whether keys can be used.
func (s Status) Ready() bool {
	for i := range s.Servers {
		if s.Servers[i].Serving && s.Servers[i].State == StateAuthenticated {
			return true
		}
	}
	return false
}

// Pin is a server certificate that is accepted.
type Pin struct {
	Fingerprint string // SHA-256 of its DER, hexadecimal
	Subject     string
	NotAfter    time.Time // for people: what is pinned is accepted after it, too
	Imported    time.Time // zero of one that an earlier version left
	Until       time.Time // when it is not accepted any more; zero of the newest
}

// ClientCertificate is one of the gateway's own.
type ClientCertificate struct {
	Fingerprint string
	Subject     string
	NotAfter    time.Time
	Next        bool     // made by a renewal, not accepted by all servers yet
	AcceptedBy  []string // the servers that know it
}

// Expected is a private key that a certificate needs.
type Expected struct {
	Certificate string // its name
	PublicKey   any    // *rsa.PublicKey or *ecdsa.PublicKey
}

// Event is a change that an administrator should find in the system log.
type Event struct {
	Severity Severity
	ID       string // such as hsm-server-down
	Object   string // the server's or the group's name
	Text     string
}

// Severity is an Event's.
type Severity int

const (
	Informational Severity = iota
	Warning
	High
	Critical
)

// stageOf is this package's word for a step of the client's.
func stageOf(s client.Stage) StageName {
	switch s {
	case client.StageName:
		return StageHost
	case client.StageTCP, client.StageRequest, "":
		return StageTCP
	case client.StageTLS:
		return StageTLS
	case client.StageRegistered, client.StageAudit:
		return StageRegistered
	case client.StageAssigned:
		return StageAssigned
	case client.StageLogin:
		return StageLogin
	default:
		return StageKeys
	}
}
