package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"moongate/client"
)

func (t *tool) destroy(ctx context.Context, o options) error {
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return err
	}
	handle := o.number("handle", 0)
	if !o.has("handle") {
		answer, err := t.con.ask(promptDelete)
		if err != nil {
			return &fixError{err, "give -handle="}
		}
		if handle, err = strconv.ParseUint(answer, 10, 64); err != nil {
			return &usageError{fmt.Sprintf("%q is no handle", answer)}
		}
	}
	e, err := inv.byHandle(handle)
	if err != nil {
		return err
	}
	if !o.flag("force", false) {
		if err := t.confirm(inv, e); err != nil {
			return err
		}
	}
	if err := s.Destroy(ctx, e.ID); err != nil {
		return fmt.Errorf("deleting handle=%d: %w", e.handle, err)
	}
	t.con.printf("Deleted: %s\n", e.words())
	return nil
}

// confirm asks before something that cannot be taken back.
func (t *tool) confirm(inv inventory, e *entry) error {
	t.con.errorf("CAUTION: Are you sure you wish to delete %s?\n", e.words())
	if e.class() == client.ClassPrivateKey {
		t.con.errorf("There is no other copy of a private key on this HSM.\n")
		if p := pairOf(inv.pairs(), e); p != nil && len(p.certificates) > 0 {
			t.con.errorf("Nothing will sign any more for: %s.\n", p.words())
		}
	}
	return t.proceed("delete the object")
}

// proceed asks for the word that lets something happen.
func (t *tool) proceed(purpose string) error {
	answer, err := t.con.ask(fmt.Sprintf(promptProceed, purpose))
	if err != nil {
		return &fixError{err, "answer proceed, or give -force"}
	}
	if answer != "proceed" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

func (e *entry) words() string {
	return fmt.Sprintf("handle=%d label=%s (%v, %s)", e.handle, shown(e.label()), e.class(), shown(e.kind()))
}
