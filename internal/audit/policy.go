package audit

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// A Policy is what an administrator chooses of a log. It is kept in the log's
// directory.
type Policy struct {
	// Strict makes [Log.Append] wait for the fsync of its record, as
	// [Log.AppendDurable] does; callers that wait at the same time share one.
	Strict bool
	// OnFull says what becomes of key uses while nothing can be written.
	OnFull OnFull
	// SegmentBytes is the size at which a segment is closed and the next one
	// begun: 64 KiB to 1 TiB.
	SegmentBytes int64
}

// OnFull says what becomes of key uses while the log cannot be written: the
// disk is full, or broken. All else is refused in any case.
type OnFull string

const (
	// Stop refuses them: what cannot be recorded is not done.
	Stop OnFull = "stop"
	// Count lets them go on without a record, and counts them; the count is
	// recorded when writing works again.
	Count OnFull = "count"
)

const (
	minSegmentBytes = 64 << 10
	maxSegmentBytes = 1 << 40
)

// DefaultPolicy is the policy of a log that was never given one.
func DefaultPolicy() Policy { return Policy{OnFull: Stop, SegmentBytes: 64 << 20} }

// Check says what is wrong with a policy.
func (p Policy) Check() error {
	switch {
	case p.OnFull != Stop && p.OnFull != Count:
		return fmt.Errorf("audit policy: on-full is %q; expected %s or %s", p.OnFull, Stop, Count)
	case p.SegmentBytes < minSegmentBytes || p.SegmentBytes > maxSegmentBytes:
		return fmt.Errorf("audit policy: segment-bytes is %d; expected %d to %d", p.SegmentBytes, minSegmentBytes, int64(maxSegmentBytes))
	}
	return nil
}

func (p Policy) String() string {
	return fmt.Sprintf("strict=%s on-full=%s segment-bytes=%d", onOff(p.Strict), p.OnFull, p.SegmentBytes)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

const policyHeader = "moongate-audit-policy/1"

// encode is the file: a header and a line for each setting, in this order.
func (p Policy) encode() []byte {
	return fmt.Appendf(nil, "%s\nstrict %s\non-full %s\nsegment-bytes %d\n", policyHeader, onOff(p.Strict), p.OnFull, p.SegmentBytes)
}

// parsePolicy accepts exactly what encode writes.
func parsePolicy(data []byte) (Policy, error) {
	const maxPolicy = 256
	if len(data) > maxPolicy {
		return Policy{}, fmt.Errorf("audit policy: %d bytes; expected at most %d", len(data), maxPolicy)
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) != 5 || lines[0] != policyHeader {
		return Policy{}, fmt.Errorf("audit policy: expected the line %q and three settings", policyHeader)
	}
	var p Policy
	strict, _ := strings.CutPrefix(lines[1], "strict ")
	p.Strict = strict == "on"
	onFull, _ := strings.CutPrefix(lines[2], "on-full ")
	p.OnFull = OnFull(onFull)
	size, _ := strings.CutPrefix(lines[3], "segment-bytes ")
	p.SegmentBytes, _ = strconv.ParseInt(size, 10, 64) // 0 is refused by Check
	if err := p.Check(); err != nil {
		return Policy{}, err
	}
	if string(p.encode()) != string(data) {
		return Policy{}, fmt.Errorf("audit policy: it is not written as %q", p.encode())
	}
	return p, nil
}

func readPolicy(dir string) (Policy, error) {
	data, err := readOptional(dir, policyName)
	if err != nil {
		return Policy{}, err
	}
	if data == nil {
		return DefaultPolicy(), nil
	}
	p, err := parsePolicy(data)
	if err != nil {
		return Policy{}, fmt.Errorf("reading %s: %w; correct it, or remove it for the defaults", filepath.Join(dir, policyName), err)
	}
	return p, nil
}

// Policy is the policy in force.
func (l *Log) Policy() Policy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policy
}

// SetPolicy puts a policy in force and keeps it. It records its intent and its
// outcome, both durably, as "log.policy". After an error the old policy is in
// force, unless the error says that the record of the outcome failed.
func (l *Log) SetPolicy(ctx context.Context, p Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	l.settings.Lock()
	defer l.settings.Unlock()
	event := Event{Kind: Admin, Action: actionPolicy, Outcome: intent, Detail: fmt.Sprintf("%v; before: %v", p, l.Policy())}
	if err := l.AppendDurable(ctx, event); err != nil {
		return err
	}
	if p.OnFull == Count {
		if err := l.tallyFile.create(); err != nil {
			return l.settle(ctx, event, err)
		}
	}
	if err := l.disk.writeFile(filepath.Join(l.dir, policyName), p.encode(), 0o600); err != nil {
		return l.settle(ctx, event, fmt.Errorf("keeping audit policy: %w", err))
	}
	l.writing.Lock()
	l.limit = l.segmentLimit(p)
	l.mu.Lock()
	l.policy = p
	l.mu.Unlock()
	l.writing.Unlock()
	return l.settle(ctx, event, nil)
}

// settle records the outcome of an act of the log's own, err, and returns it,
// or what kept it from being recorded.
func (l *Log) settle(ctx context.Context, event Event, err error) error {
	event.Outcome = OK
	if err != nil {
		event.Outcome = err.Error()
	}
	if jerr := l.AppendDurable(context.WithoutCancel(ctx), event); jerr != nil && err == nil {
		return fmt.Errorf("it was done, and that could not be recorded: %w", jerr)
	}
	return err
}
