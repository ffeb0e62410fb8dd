package main

import (
	"context"
	"fmt"

	"moongate/client"
)

// step is one line of `cmu verify`.
type step struct {
	Member string `json:"member,omitempty"` // of a group
	Stage  string `json:"stage"`
	State  string `json:"state"` // ok, FAIL, or - where it was not reached
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

const (
	stateOK      = "ok"
	stateFail    = "FAIL"
	stateSkipped = "-"
)

func (t *tool) verify(ctx context.Context, o options) error {
	if o.has("inputFile") {
		return t.verifyFile(ctx, o)
	}
	for _, only := range []string{"signatureFile", "handle", "hash", "pss"} {
		if o.has(only) {
			return &usageError{fmt.Sprintf("-%s goes with -inputFile", only)}
		}
	}
	steps, err := t.walk(ctx, o)
	if err != nil {
		return err
	}
	whole := true
	for _, s := range steps {
		whole = whole && s.State != stateFail
	}
	if o.flag("json", false) {
		if err := t.con.printJSON(steps); err != nil {
			return err
		}
	} else {
		member := ""
		for _, s := range steps {
			if s.Member != member {
				member = s.Member
				t.con.printf("member %s\n", member)
			}
			t.con.printf("%-14s %-4s  %s\n", s.Stage, s.State, printable(s.Detail))
			if s.Fix != "" {
				t.con.printf("%-14s %-4s  what to do: %s\n", "", "", s.Fix)
			}
		}
	}
	if !whole {
		return errNotVerified
	}
	return nil
}

// walk takes the steps, from the configuration to the login, with each member of
// a group. The error is that of a command line that cannot be obeyed.
func (t *tool) walk(ctx context.Context, o options) ([]step, error) {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return nil, err
	}
	if !o.flag("login", true) {
		role = client.RoleNone
	}
	found, err := t.targets(o, role)
	if exitCode(err) == exitUsage && err != nil {
		return nil, err
	}
	steps := []step{{Stage: "configuration", State: stateOK, Detail: found.path}}
	if err != nil {
		return notConfigured(err), nil
	}
	for _, m := range found.members {
		results, err := client.Verify(ctx, m.Config)
		if err != nil {
			return notConfigured(err), nil
		}
		for _, r := range results {
			s := step{Stage: string(r.Stage), State: stateOK, Detail: r.Detail}
			if found.group != nil {
				s.Member = m.Name
			}
			switch {
			case r.Skipped:
				s.State = stateSkipped
			case !r.OK:
				s.State, s.Detail = stateFail, r.Err.Error()
				s.Fix = fixFor(&client.Error{Stage: r.Stage, Err: r.Err, Fix: r.Fix})
			}
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// notConfigured are the steps where the first one fails.
func notConfigured(err error) []step {
	what, fix := explain(err)
	steps := []step{{Stage: "configuration", State: stateFail, Detail: what, Fix: fix}}
	for _, stage := range []client.Stage{client.StageName, client.StageTCP, client.StageTLS, client.StageRegistered, client.StageAssigned, client.StageLogin} {
		steps = append(steps, step{Stage: string(stage), State: stateSkipped})
	}
	return steps
}
