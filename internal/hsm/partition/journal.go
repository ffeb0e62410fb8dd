package partition

import (
	"context"
	"errors"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// intent is the outcome of a record that was written before its act. A record
// of intent that no outcome follows is an act that a crash interrupted.
const intent = "intent"

func outcome(err error) string {
	if err == nil {
		return audit.OK
	}
	return object.CodeOf(err).String()
}

// detail is the refusal's own text; that of other errors may hold paths and is
// for the HSM's log only.
func detail(err error) string {
	var refusal *object.Error
	if errors.As(err, &refusal) {
		return refusal.Detail
	}
	return ""
}

func unrecorded(err error) error {
	return object.Errorf(object.ErrAuditFailed, "it could not be recorded, so it was refused: %v", err)
}

// administer records the intent, does the act, and records what became of it,
// each durably.
func (h *HSM) administer(ctx context.Context, who Operator, act, about string, do func() error) error {
	event := audit.Event{Kind: audit.Admin, Action: act, Client: who.Name, Remote: who.From, Outcome: intent, Detail: about}
	if err := h.journal.AppendDurable(ctx, event); err != nil {
		return unrecorded(err)
	}
	err := do()
	event.Outcome = outcome(err)
	if err != nil {
		event.Kind, event.Detail = audit.Denied, about+": "+detail(err)
		h.log.Warn("administrative act refused", "action", act, "about", about, "by", who.Name, "err", err)
	} else {
		h.log.Info("administrative act", "action", act, "about", about, "by", who.Name)
	}
	// The act is done: its outcome is recorded even when the caller is gone.
	if jerr := h.journal.AppendDurable(context.WithoutCancel(ctx), event); jerr != nil {
		return errors.Join(err, unrecorded(jerr))
	}
	return err
}

func (h *HSM) recordLogin(ctx context.Context, who Operator, role object.Role, partition string, err error) error {
	event := audit.Event{
		Kind: audit.Login, Action: "login", Client: who.Name, Remote: who.From,
		Partition: partition, Role: role.String(), Outcome: outcome(err), Detail: detail(err),
	}
	if jerr := h.journal.AppendDurable(context.WithoutCancel(ctx), event); jerr != nil {
		return unrecorded(jerr)
	}
	if err != nil {
		h.log.Warn("login refused", "role", role, "partition", partition, "client", who.Name, "from", who.From, "err", err)
	}
	return nil
}

// recordRefusal records what a stranger, or a client before its login, was
// refused.
func (h *HSM) recordRefusal(act, who, from string, refusal error) error {
	h.log.Warn("refused", "action", act, "client", who, "from", from, "err", refusal)
	event := audit.Event{Kind: audit.Denied, Action: act, Client: who, Remote: from, Outcome: outcome(refusal), Detail: detail(refusal)}
	if err := h.journal.Append(event); err != nil {
		return unrecorded(err)
	}
	return nil
}
