package main

import (
	"context"
	"fmt"

	"moongate/client"
)

// step is one line of `cmu verify`.
type step struct {
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
		for _, s := range steps {
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

// walk takes the steps, from the configuration to the login. The error is that
// of a command line that cannot be obeyed.
func (t *tool) walk(ctx context.Context, o options) ([]step, error) {
	path, err := t.configPath(o)
	if err != nil {
		return nil, err
	}
	config, err := t.clientConfig(o)
	if exitCode(err) == exitUsage && err != nil {
		return nil, err
	}
	if !o.flag("login", true) {
		config.Role = client.RoleNone
	}
	var results []client.StageResult
	if err == nil {
		results, err = client.Verify(ctx, config)
	}
	if err != nil {
		what, fix := explain(err)
		steps := []step{{Stage: "configuration", State: stateFail, Detail: what, Fix: fix}}
		for _, stage := range []client.Stage{client.StageName, client.StageTCP, client.StageTLS, client.StageRegistered, client.StageAssigned, client.StageLogin} {
			steps = append(steps, step{Stage: string(stage), State: stateSkipped})
		}
		return steps, nil
	}
	steps := []step{{Stage: "configuration", State: stateOK, Detail: path}}
	for _, r := range results {
		s := step{Stage: string(r.Stage), State: stateOK, Detail: r.Detail}
		switch {
		case r.Skipped:
			s.State = stateSkipped
		case !r.OK:
			s.State, s.Detail = stateFail, r.Err.Error()
			s.Fix = fixFor(&client.Error{Stage: r.Stage, Err: r.Err, Fix: r.Fix})
		}
		steps = append(steps, s)
	}
	return steps, nil
}
