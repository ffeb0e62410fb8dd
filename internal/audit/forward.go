package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"moongate/internal/durable"
)

// A Notice is a record as a collector of events gets it.
type Notice struct {
	// Seq is the record's number; of a notice that records were skipped, the
	// number of the last of them.
	Seq      int64
	Severity int // RFC 5424, section 6.2.1: 2 critical, 4 warning, 5 notice, 6 informational
	Time     time.Time
	Action   string // up to 64 bytes
	Fields   []Field
	Text     string // the record's line, as the log has it
}

// A Field is a member of a record.
type Field struct{ Name, Value string }

// A Sink takes notices to a collector. Only one goroutine calls it.
type Sink interface {
	// Send takes a notice, and waits until it can. An error other than the
	// context's says that what is behind Settled may be lost.
	Send(ctx context.Context, n Notice) error
	// Flush sends what Send has kept; its error says the same.
	Flush() error
	// Settled is the Seq of the newest notice that, like all before it, has
	// arrived; -1 for none.
	Settled() int64
}

// A Forwarder sends a log's records to a Sink: every record that is fsynced,
// in order, at least once. It reads them from the log's files, beside the log:
// a sink that is slow or away holds nothing up. Where it has come to it keeps
// in a file, so that nothing is left out over an outage or a restart as long
// as the segments are there; of records that were archived before, it says
// so.
type Forwarder struct {
	Log    *Log
	Sink   Sink
	State  string // file to be kept
	Logger *slog.Logger
	Poll   time.Duration // between looks at the log; default 500 ms
}

// saveInterval is how often the state is kept, when it changed.
const saveInterval = time.Second

// Run forwards until ctx is done, and returns nil then. It fails only if its
// state cannot be read.
func (f *Forwarder) Run(ctx context.Context) error {
	kept, err := f.load()
	if err != nil {
		return err
	}
	poll := f.Poll
	if poll <= 0 {
		poll = saveInterval / 2
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	next, saved, warned := kept, time.Now(), time.Time{}
	for {
		next, err = f.forward(ctx, next)
		if err != nil && ctx.Err() == nil {
			if time.Since(warned) > time.Minute {
				f.Logger.Warn("forwarding the audit log", "record", next, "err", err)
				warned = time.Now()
			}
			// What was sent since may not have arrived.
			next = min(next, max(kept, f.Sink.Settled()+1))
		}
		settled := max(kept, f.Sink.Settled()+1)
		if settled > kept && time.Since(saved) > saveInterval {
			f.keep(settled)
			kept, saved = settled, time.Now()
		}
		if err == nil && next < f.Log.permanentLen() && ctx.Err() == nil {
			continue // there is more than one helping
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if settled := f.Sink.Settled() + 1; settled > kept {
				f.keep(settled)
			}
			return nil
		}
	}
}

// helping is how many records are sent between two looks at what settled.
const helping = 1000

// forward sends a helping of the records from number next on that are fsynced,
// and returns the number of the first that it did not send.
func (f *Forwarder) forward(ctx context.Context, next int64) (int64, error) {
	end := min(f.Log.permanentLen(), next+helping)
	var failed, err error
	if next < end {
		err = eachRecord(f.Log.dir, next, func(e Event) bool {
			if e.Seq >= end && e.Seq == next {
				return false
			}
			if e.Seq > next {
				if failed = f.Sink.Send(ctx, skipped(next, e.Seq-1)); failed != nil {
					return false
				}
				next = e.Seq
			}
			if failed = f.Sink.Send(ctx, noticeOf(&e)); failed != nil {
				return false
			}
			next++
			return true
		})
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a segment was archived under the reader: the next look says what is skipped
	}
	if failed != nil {
		return next, failed
	}
	return next, errors.Join(err, f.Sink.Flush())
}

// skipped says what cannot be forwarded any more.
func skipped(first, last int64) Notice {
	return Notice{
		Seq: last, Severity: severityCritical, Time: time.Now(), Action: actionSkipped,
		Fields: []Field{{"first", strconv.FormatInt(first, 10)}, {"last", strconv.FormatInt(last, 10)}},
		Text:   fmt.Sprintf("audit records %d to %d were archived before they could be forwarded", first, last),
	}
}

const (
	severityCritical = 2
	severityWarning  = 4
	severityNotice   = 5
	severityInfo     = 6
)

// actionSkipped is in no record: the forwarder says it.
const actionSkipped = "log.skipped"

// severity ranks a record: what the log lost, then what was refused or went
// wrong, then what changed, then what is every day's.
func severity(e *Event) int {
	switch e.Action {
	case actionLoss, actionGap, actionUncounted, actionStopped:
		return severityCritical
	case actionRecovered:
		return severityWarning
	}
	switch {
	case e.Kind == Denied || e.Outcome != OK && e.Outcome != intent:
		return severityWarning
	case e.Kind == Change || e.Kind == Admin:
		return severityNotice
	default:
		return severityInfo
	}
}

// noticeOf makes the notice of a record, with its members that are not empty.
func noticeOf(e *Event) Notice {
	n := Notice{Seq: e.Seq, Severity: severity(e), Time: e.Time, Action: e.Action, Text: string(e.AppendJSON(nil))}
	add := func(name, value string) {
		if value != "" {
			n.Fields = append(n.Fields, Field{name, value})
		}
	}
	add("seq", strconv.FormatInt(e.Seq, 10))
	add("kind", string(e.Kind))
	add("action", e.Action)
	add("outcome", e.Outcome)
	if e.Op != [16]byte{} {
		add("op", hex.EncodeToString(e.Op[:]))
	}
	add("client", e.Client)
	add("remote", e.Remote)
	add("partition", e.Partition)
	add("role", e.Role)
	if e.Object != [16]byte{} {
		add("object", string(appendUUID(nil, e.Object)))
	}
	add("mechanism", e.Mechanism)
	add("detail", e.Detail)
	return n
}

const forwardHeader = "moongate-audit-forward/1"

// encodeForward is the state: the log's key, so that a log begun anew is not
// taken for the old one, and the first record that has not arrived for sure.
func encodeForward(verifierKey string, next int64) []byte {
	return fmt.Appendf(nil, "%s\n%s\n%d\n", forwardHeader, verifierKey, next)
}

// parseForward accepts exactly what encodeForward writes.
func parseForward(data []byte) (string, int64, error) {
	malformed := errors.New("malformed forwarding state; remove it to forward from the first record")
	lines := strings.Split(string(data), "\n")
	if len(data) > 1024 || len(lines) != 4 {
		return "", 0, malformed
	}
	next, err := strconv.ParseInt(lines[2], 10, 64)
	if err != nil || next < 0 || string(encodeForward(lines[1], next)) != string(data) {
		return "", 0, malformed
	}
	return lines[1], next, nil
}

// load is the first record to be forwarded.
func (f *Forwarder) load() (int64, error) {
	data, err := os.ReadFile(f.State)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("forwarding the audit log: %w", err)
	}
	key, next, err := parseForward(data)
	if err != nil {
		return 0, fmt.Errorf("forwarding the audit log: %s: %w", f.State, err)
	}
	if key != f.Log.VerifierKey() {
		f.Logger.Info("the audit log was begun anew; it is forwarded from its first record")
		return 0, nil
	}
	// A crash of the machine takes no record that was fsynced; an earlier state
	// of the directory, put back, has fewer.
	if n := f.Log.permanentLen(); next > n {
		f.Logger.Warn("the audit log has fewer records than were forwarded", "records", n, "forwarded", next)
		return n, nil
	}
	return next, nil
}

// keep writes the state; where it cannot, some will be sent twice.
func (f *Forwarder) keep(next int64) {
	if err := durable.WriteFile(f.State, encodeForward(f.Log.VerifierKey(), next), 0o600); err != nil {
		f.Logger.Warn("keeping how far the audit log was forwarded", "err", err)
	}
}
