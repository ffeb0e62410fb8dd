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

// join says what a record is about and what became of it; either may be empty.
func join(about, detail string) string {
	if about == "" || detail == "" {
		return about + detail
	}
	return about + ": " + detail
}

func unrecorded(err error) error {
	return object.Errorf(object.ErrAuditFailed, "it could not be recorded, so it was refused: %v", err)
}

// begin records an act's intent durably. A caller that has gone meanwhile is no
// fault of the journal, and is told so.
func (h *HSM) begin(ctx context.Context, event audit.Event) error {
	err := h.journal.AppendDurable(ctx, event)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return unrecorded(err)
	}
	return nil
}

// conclude records an act's outcome durably, even when its caller is gone: the
// act is done, or failed with err, which is returned.
func (h *HSM) conclude(ctx context.Context, event audit.Event, err error) error {
	jerr := h.journal.AppendDurable(context.WithoutCancel(ctx), event)
	switch {
	case jerr == nil:
		return err
	case err == nil:
		return object.Errorf(object.ErrAuditFailed, "it was done, and that could not be recorded; look before doing it again: %v", jerr)
	}
	return errors.Join(err, unrecorded(jerr))
}

// administer records the intent, does the act, and records what became of it,
// each durably.
func (h *HSM) administer(ctx context.Context, who Operator, act, about string, do func() error) error {
	event := audit.Event{Kind: audit.Admin, Action: act, Client: who.Name, Remote: who.From, Outcome: intent, Detail: about}
	if err := h.begin(ctx, event); err != nil {
		return err
	}
	err := do()
	event.Outcome = outcome(err)
	if err != nil {
		event.Kind, event.Detail = audit.Denied, join(about, detail(err))
		h.log.Warn("administrative act refused", "action", act, "about", about, "by", who.Name, "err", err)
	} else {
		h.log.Info("administrative act", "action", act, "about", about, "by", who.Name)
	}
	return h.conclude(ctx, event, err)
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
// refused; note is added to its detail.
func (h *HSM) recordRefusal(act, who, from, note string, refusal error) error {
	h.log.Warn("refused", "action", act, "client", who, "from", from, "err", refusal)
	event := audit.Event{Kind: audit.Denied, Action: act, Client: who, Remote: from, Outcome: outcome(refusal), Detail: detail(refusal) + note}
	if err := h.journal.Append(event); err != nil {
		return unrecorded(err)
	}
	return nil
}
