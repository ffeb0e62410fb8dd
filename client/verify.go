package client

import (
	"context"
	"errors"
)

// stagesOf are the steps that Verify walks, in their order. The audit log is
// one only where the configuration has its checkpoint remembered.
func stagesOf(config *Config) []Stage {
	if config.CheckpointFile == "" {
		return []Stage{StageName, StageTCP, StageTLS, StageRegistered, StageAssigned, StageLogin}
	}
	return []Stage{StageName, StageTCP, StageTLS, StageRegistered, StageAudit, StageAssigned, StageLogin}
}

// StageResult is one step of Verify.
type StageResult struct {
	Stage   Stage
	OK      bool
	Skipped bool   // not reached, or (login) no role is configured
	Detail  string // what was found, when OK
	Err     error
	Fix     string // what to do about Err
}

// Verify walks the whole path to a login once, on a connection of its own, and
// says of each step whether it works. The steps after the first that fails are
// skipped. The error is that of a configuration that cannot work.
func Verify(ctx context.Context, config Config) ([]StageResult, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	stages := stagesOf(&config)
	results := make([]StageResult, len(stages))
	for i, stage := range stages {
		results[i] = StageResult{Stage: stage, Skipped: true}
	}
	set := func(stage Stage, change func(*StageResult)) {
		for i := range results {
			if results[i].Stage == stage {
				results[i].Skipped = false
				change(&results[i])
			}
		}
	}
	passed := func(stage Stage, detail string) {
		set(stage, func(r *StageResult) { r.OK, r.Detail = true, detail })
	}
	if err := walk(ctx, &config, passed); err != nil {
		stage := StageName
		fix := ""
		if e, ok := errors.AsType[*Error](err); ok {
			stage, err, fix = e.Stage, e.Err, e.Fix
		}
		set(stage, func(r *StageResult) { r.Err, r.Fix = err, fix })
	}
	return results, nil
}

func walk(ctx context.Context, config *Config, passed func(Stage, string)) error {
	within, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
	defer cancel()
	l, err := connect(within, config, passed)
	if err != nil {
		return err
	}
	defer l.close(ErrClosed)
	if err := walkAudit(ctx, l, config, passed); err != nil {
		return err
	}
	s, err := logIn(ctx, l, config, config.Password, passed)
	if err != nil {
		return err
	}
	p := newPatience(ctx, config.ConnectTimeout)
	defer p.release()
	closeSession(p, l, s)
	return nil
}

func walkAudit(ctx context.Context, l *link, config *Config, passed func(Stage, string)) error {
	if config.CheckpointFile == "" {
		return nil
	}
	p := newPatience(ctx, config.ConnectTimeout)
	defer p.release()
	found, err := checkAudit(p, l, config)
	switch {
	case errors.Is(err, errNoAudit):
		passed(StageAudit, err.Error())
	case err != nil:
		return stageError(StageAudit, err)
	default:
		passed(StageAudit, found)
	}
	return nil
}
