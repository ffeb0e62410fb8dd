package mgmt

import (
	"context"
	"errors"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/revision"
)

// ErrNoChanges is returned by Commit when the candidate is the running
// configuration.
var ErrNoChanges = &Error{Code: CodeNotPossible, Lines: []string{"There are no changes to commit."}}

// coded gives an error of the parts its code. One that has a code, and the end
// of a context, are passed on as they are.
func coded(err error) error {
	if err == nil || CodeOf(err) != 0 || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	lines := strings.Split(err.Error(), "\n")
	code := CodeNotPossible
	_, badPath := errors.AsType[*config.PathError](err)
	_, inUse := errors.AsType[*config.RefError](err)
	_, invalid := errors.AsType[config.Problem](err)
	switch {
	case badPath:
		code = CodeBadXPath
	case inUse:
		code = CodeInUse
	case errors.Is(err, config.ErrNotPresent):
		code = CodeNotPresent
	case errors.Is(err, config.ErrNotUnique):
		code = CodeNotUnique
	case invalid:
		code = CodeInvalidObject
	case errors.Is(err, jobs.ErrNotFound), errors.Is(err, revision.ErrNoVersion):
		code = CodeNotFound
	}
	return &Error{Code: code, Lines: lines}
}
