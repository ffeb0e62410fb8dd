package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"moongate/internal/durable"
)

// Accepting a loss takes several steps, any of which a crash may be the last
// of; each can be taken again.
//
//  1. lost.part/ is made, with the reason in it: the decision is on disk.
//  2. The files are moved there, but for the signer key, which is removed: no
//     second history shall ever be signed with it.
//  3. lost.part/moved is written: what is beside lost.part from now on is new.
//  4. A new log is made and records the loss, durably.
//  5. lost.part is renamed to lost.NNNNNN.
const (
	lossPart   = "lost.part"
	lossReason = "reason"
	lossMoved  = "moved"
	lossPrefix = "lost."
)

// An acceptedLoss is a loss at step 4.
type acceptedLoss struct {
	reason string
}

// beginLoss takes the first three steps.
func beginLoss(dir string, damage *LossError) (*acceptedLoss, error) {
	part := filepath.Join(dir, lossPart)
	if _, err := os.Stat(filepath.Join(part, lossMoved)); err == nil {
		// The log that followed an accepted loss was lost in its turn, before
		// that one's last step.
		name, err := nextLost(dir)
		if err != nil {
			return nil, err
		}
		if err := durable.Rename(part, filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("putting audit log aside: %w", err)
		}
	}
	if err := durable.Mkdir(part); err != nil {
		return nil, fmt.Errorf("putting audit log aside: %w", err)
	}
	reason := damage.What
	if damage.Checkpoint.N > 0 {
		reason += fmt.Sprintf("; the latest checkpoint covered %d records with root %s", damage.Checkpoint.N, damage.Checkpoint.Hash)
	}
	if err := durable.WriteFile(filepath.Join(part, lossReason), []byte(reason+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("putting audit log aside: %w", err)
	}
	return resumeLoss(dir)
}

// resumeLoss takes the second and third steps of a loss that was begun, or
// says nil if there is none.
func resumeLoss(dir string) (*acceptedLoss, error) {
	part := filepath.Join(dir, lossPart)
	reason, err := os.ReadFile(filepath.Join(part, lossReason))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // or a crash in the first step: nothing was moved
	} else if err != nil {
		return nil, fmt.Errorf("putting audit log aside: %w", err)
	}
	loss := &acceptedLoss{reason: strings.TrimSuffix(string(reason), "\n")}
	moved := filepath.Join(part, lossMoved)
	if _, err := os.Stat(moved); err == nil {
		return loss, nil
	}
	if err := moveAside(dir, part); err != nil {
		return nil, fmt.Errorf("putting audit log aside: %w", err)
	}
	if err := durable.WriteFile(moved, nil, 0o600); err != nil {
		return nil, fmt.Errorf("putting audit log aside: %w", err)
	}
	return loss, nil
}

func moveAside(dir, part string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == privateName || name == newHashesName:
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		case name == hashesName, name == checkpointsName, name == reservedName, name == archivedName, name == publicName, isSegment(name):
			if err := durable.Rename(filepath.Join(dir, name), filepath.Join(part, name)); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(dir)
}

// record takes the last two steps.
func (a *acceptedLoss) record(l *Log) error {
	var first Event
	if err := eachRecord(l.dir, 0, func(e Event) bool { first = e; return false }); err != nil {
		return err
	}
	name, err := nextLost(l.dir)
	if err != nil {
		return err
	}
	if first.Action != actionLoss {
		event := Event{Kind: Admin, Action: actionLoss, Outcome: OK, Detail: "earlier log put aside as " + name + ": " + a.reason}
		if err := l.AppendDurable(context.Background(), event); err != nil {
			return err
		}
	}
	return durable.Rename(filepath.Join(l.dir, lossPart), filepath.Join(l.dir, name))
}

// nextLost is the first name lost.NNNNNN that is free.
func nextLost(dir string) (string, error) {
	for i := range 1_000_000 {
		name := fmt.Sprintf("%s%06d", lossPrefix, i)
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", fmt.Errorf("putting audit log aside: %w", err)
		}
	}
	return "", errors.New("putting audit log aside: no name is left")
}
