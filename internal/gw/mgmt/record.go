package mgmt

import (
	"fmt"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
)

// Results in the configuration log.
const (
	resultDone    = "Succeeded"
	resultRefused = "Unauthorized"
	resultFailed  = "Failed"
)

// event writes into the system log. What cannot be written there is left in
// the gateway's messages.
func (m *Manager) event(severity logstore.Severity, kind, id, object, text string) {
	m.parts.Logs.System(logstore.Event{
		Time: m.now(), Severity: severity, Type: kind, EventID: id, Object: object, Description: text,
	})
}

// record writes what a caller did to the configuration, or failed to do, into
// the configuration log.
func (m *Manager) record(c Caller, command, path, before, after, result string) {
	m.write(m.entry(c, command, path, before, after, result))
}

// entry makes an entry of the configuration log. A path may be anything that
// somebody sent: a long one is cut.
func (m *Manager) entry(c Caller, command, path, before, after, result string) logstore.Change {
	return logstore.Change{
		Time: m.now(), Admin: c.Name, From: fromOf(c), Via: string(c.Via), Command: command, Path: bounded(path),
		Before: before, After: after, Result: result,
	}
}

// write writes entries together. A log that cannot be written to (a full disk)
// does not keep an administrator from mending the gateway: the entries go to its
// messages then.
func (m *Manager) write(changes ...logstore.Change) {
	err := m.parts.Logs.Config(changes...)
	if err == nil {
		return
	}
	for _, change := range changes {
		m.log.Error("the configuration log cannot be written", "err", err, "admin", change.Admin, "from", change.From,
			"via", change.Via, "command", change.Command, "path", change.Path, "before", change.Before, "after", change.After, "result", change.Result)
	}
}

// fromOf is where a caller came from; "" at the console.
func fromOf(c Caller) string {
	if !c.From.IsValid() {
		return ""
	}
	return c.From.String()
}

// failed is a result with its reason.
func failed(err error) string {
	if CodeOf(err) == CodeDenied || CodeOf(err) == CodeUnauthorized {
		return resultRefused + ": " + oneLine(err.Error())
	}
	return resultFailed + ": " + oneLine(err.Error())
}

// bounds of what one entry of the log shows of a change.
const (
	maxShownChanges = 100
	maxShownText    = 16 << 10 // bytes, each way
)

// beforeAfter writes changes as the two texts of a log entry, a line each.
func beforeAfter(changes []config.Change) (before, after string) {
	var b, a strings.Builder
	for i, change := range changes {
		if i == maxShownChanges || b.Len()+a.Len() > maxShownText {
			more := fmt.Sprintf("(%d more changes)\n", len(changes)-i)
			b.WriteString(more)
			a.WriteString(more)
			break
		}
		if change.Before != "" || change.Kind == config.Removed {
			fmt.Fprintf(&b, "%s %s\n", change.Path, bounded(change.Before))
		}
		if change.After != "" || change.Kind == config.Added {
			fmt.Fprintf(&a, "%s %s\n", change.Path, bounded(change.After))
		}
	}
	return strings.TrimRight(b.String(), " \n"), strings.TrimRight(a.String(), " \n")
}

// maxValue bounds one value in a log entry, in bytes: certificates are long.
const maxValue = 512

func bounded(value string) string {
	if len(value) <= maxValue {
		return value
	}
	return strings.ToValidUTF8(value[:maxValue], "") + "..."
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
