package adminshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
)

// logins are whose passwords were right in this session. A command that needs
// one which is not here asks for its password, for that command alone.
type logins struct {
	officer    *partition.Officer
	partitions map[string]*partition.PartitionOfficer // by the partition's serial number
	auditor    *partition.Auditor
}

// forget logs everybody out.
func (l *logins) forget() {
	l.officer, l.auditor = nil, nil
	l.forgetPartitions()
}

func (l *logins) forgetPartitions() {
	for _, p := range l.partitions {
		p.Close()
	}
	l.partitions = nil
}

// names says who is logged in.
func (l *logins) names(h *partition.HSM) []string {
	names := []string{}
	if l.officer != nil {
		names = append(names, "HSM Security Officer")
	}
	partitions, err := h.Partitions()
	if err != nil {
		partitions = nil
	}
	for _, p := range partitions {
		if l.partitions[p.Serial] != nil {
			names = append(names, "Security Officer of partition "+p.Label)
		}
	}
	if l.auditor != nil {
		names = append(names, "Auditor")
	}
	return names
}

// ask asks for a secret. The caller clears it; the terminal's own copy, a
// string, is beyond reach.
func (s *Shell) ask(prompt string) ([]byte, error) {
	text, err := s.term.Ask(prompt, true)
	if err != nil {
		return nil, err
	}
	return []byte(text), nil
}

// askNew asks for a new password twice.
func (s *Shell) askNew(whose string) ([]byte, error) {
	first, err := s.ask(fmt.Sprintf("Please enter a new password for %s: ", whose))
	if err != nil {
		return nil, err
	}
	second, err := s.ask("Please re-enter the password to confirm: ")
	defer clear(second)
	if err != nil {
		clear(first)
		return nil, err
	}
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

// confirm asks before something that cannot be taken back.
func (s *Shell) confirm(a args, caution, purpose string) error {
	if a.has("force") {
		return nil
	}
	return s.mustConfirm(caution, purpose)
}

func (s *Shell) mustConfirm(caution, purpose string) error {
	fmt.Fprintf(s.term, "CAUTION: %s\n", caution)
	answer, err := s.term.Ask(fmt.Sprintf("Type 'proceed' to %s, or 'quit' to quit now.\n> ", purpose), false)
	if err != nil {
		return err
	}
	if !strings.EqualFold(strings.TrimSpace(answer), "proceed") {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

// asOfficer returns the session's Security Officer, asking for the password
// where nobody has logged in.
func (s *Shell) asOfficer(ctx context.Context) (*partition.Officer, error) {
	if s.logins.officer != nil {
		return s.logins.officer, nil
	}
	return s.authenticateOfficer(ctx)
}

// authenticateOfficer asks for the Security Officer's password whoever is
// logged in. Nothing skips the question before the last attempt.
func (s *Shell) authenticateOfficer(ctx context.Context) (*partition.Officer, error) {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return nil, err
	}
	if info.OfficerAttempts == 1 {
		err := s.mustConfirm("This is the last attempt. A wrong password destroys every key, partition and registration of this HSM, and an attempt that is interrupted counts as a wrong one.",
			"enter the password")
		if err != nil {
			return nil, err
		}
	}
	fmt.Fprintln(s.term, "Please enter the HSM Administrators' password:")
	pw, err := s.ask("> ")
	if err != nil {
		return nil, err
	}
	defer clear(pw)
	o, err := s.appliance.HSM.AuthenticateOfficer(ctx, s.who.Operator, pw)
	if err != nil {
		s.showAttempts(err)
		return nil, err
	}
	return o, nil
}

// showAttempts says what a wrong password has left.
func (s *Shell) showAttempts(wrong error) {
	if !s.appliance.HSM.Initialized() {
		s.logins.forget() // it was the last, and the error says what that did
		return
	}
	if object.CodeOf(wrong) != object.ErrPINIncorrect {
		return
	}
	if info, err := s.appliance.HSM.Info(); err == nil {
		fmt.Fprintf(s.term, "SO login attempts left: %d\n", info.OfficerAttempts)
	}
}

// partitionsDo runs an act of who administers a partition: its Partition
// Security Officer, or the HSM's Security Officer where it has none.
func (s *Shell) partitionsDo(ctx context.Context, name, words string, do func(*partition.PartitionOfficer) error) error {
	status, err := s.appliance.HSM.Partition(name)
	if err != nil {
		return err
	}
	p := s.logins.partitions[status.Serial]
	if p == nil {
		if p, err = s.openPartition(ctx, status); err != nil {
			return err
		}
		defer p.Close()
	}
	if err := do(p); err != nil {
		return err
	}
	s.successful(words)
	return nil
}

func (s *Shell) openPartition(ctx context.Context, status partition.PartitionStatus) (*partition.PartitionOfficer, error) {
	if hasOfficer(status) {
		return s.authenticatePartitionOfficer(ctx, status.Label)
	}
	o, err := s.asOfficer(ctx)
	if err != nil {
		return nil, err
	}
	return o.Partition(status.Label)
}

func (s *Shell) authenticatePartitionOfficer(ctx context.Context, label string) (*partition.PartitionOfficer, error) {
	pw, err := s.ask(fmt.Sprintf("Please enter the password of partition %s's Security Officer: ", label))
	if err != nil {
		return nil, err
	}
	defer clear(pw)
	return s.appliance.HSM.AuthenticatePartitionOfficer(ctx, s.who.Operator, label, pw)
}

// hasOfficer reports whether a partition has a Security Officer of its own.
func hasOfficer(p partition.PartitionStatus) bool {
	for _, r := range p.Roles {
		if r.Role == object.RolePartitionOfficer.String() {
			return r.Initialized
		}
	}
	return false
}

// asAuditor returns the session's Auditor, asking for the password where nobody
// has logged in.
func (s *Shell) asAuditor(ctx context.Context) (*partition.Auditor, error) {
	if s.logins.auditor != nil {
		return s.logins.auditor, nil
	}
	return s.authenticateAuditor(ctx)
}

func (s *Shell) authenticateAuditor(ctx context.Context) (*partition.Auditor, error) {
	pw, err := s.ask("Please enter the Auditor's password: ")
	if err != nil {
		return nil, err
	}
	defer clear(pw)
	return s.appliance.HSM.AuthenticateAuditor(ctx, s.who.Operator, pw)
}
