package logstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Log names one of the logs.
type Log string

const (
	Traffic    Log = "traffic"    // every flow
	Decryption Log = "decryption" // the flows that had TLS to decide about
	System     Log = "system"
	Config     Log = "config"
)

// Logs are all logs, in the order of their use.
func Logs() []Log { return []Log{Traffic, Decryption, System, Config} }

// ParseLog reads a log's name.
func ParseLog(name string) (Log, error) {
	for _, log := range Logs() {
		if strings.EqualFold(name, string(log)) {
			return log, nil
		}
	}
	return "", fmt.Errorf("log %q: expected traffic, decryption, system or config", name)
}

// Severity is how much a system event matters: by its effect.
type Severity int

const (
	Informational Severity = iota + 1
	Low
	Medium
	High
	Critical
)

var severities = []string{Informational: "informational", Low: "low", Medium: "medium", High: "high", Critical: "critical"}

func (s Severity) String() string {
	if s < Informational || s > Critical {
		return strconv.Itoa(int(s))
	}
	return severities[s]
}

// ParseSeverity reads what String writes.
func ParseSeverity(word string) (Severity, error) {
	for s := Informational; s <= Critical; s++ {
		if strings.EqualFold(word, s.String()) {
			return s, nil
		}
	}
	return 0, fmt.Errorf("severity %q: expected %s", word, strings.Join(severities[1:], ", "))
}

// Event is one entry of the system log.
type Event struct {
	Time        time.Time // zero is now
	Severity    Severity  // zero is Informational
	Type        string    // the part of the gateway: general, hsm, auth, crypto, log
	EventID     string    // the kind of event, one word
	Object      string    // what it is about: a certificate, a server, an account
	Description string    // one sentence
}

// Change is one entry of the configuration log: what an administrator did, or
// was refused. Secrets in Before and After are masked by the caller.
type Change struct {
	Time    time.Time // zero is now
	Admin   string
	From    string // where from: an address
	Via     string // cli, api, web, console
	Command string // set, edit, delete, commit and so on
	Path    string // of the element
	Before  string
	After   string
	Result  string // Succeeded, Submitted, Failed, Unauthorized, with the reason
}

// Field is a name and a value, as filters and all interfaces have them.
type Field struct {
	Name, Value string

	number bool // Value is one, to JSON
}

// Entry is one entry of a log.
type Entry struct {
	Log  Log
	Seq  int64     // of its database: unique, ascending, with gaps
	Time time.Time // when it was received
	// Fields are always the same of a log, in the same order, empty ones too.
	Fields []Field
	// Record is, of a flow, the whole flow.Record in JSON; nil for other logs.
	Record json.RawMessage
}

// Get returns the value of a field; empty where there is none.
func (e *Entry) Get(name string) string {
	for i := range e.Fields {
		if e.Fields[i].Name == name {
			return e.Fields[i].Value
		}
	}
	return ""
}

// AppendJSON appends the entry as one JSON object without a line end: the
// flow.Record with the member seqno before it, or else the time and the fields.
func (e *Entry) AppendJSON(b []byte) []byte {
	if len(e.Record) > 1 {
		b = append(b, `{"seqno":`...)
		b = strconv.AppendInt(b, e.Seq, 10)
		if len(e.Record) > 2 {
			b = append(b, ',')
		}
		return append(b, e.Record[1:]...)
	}
	b = append(b, `{"time":`...)
	b = appendString(b, e.Time.UTC().Format(time.RFC3339Nano))
	for _, f := range e.Fields {
		b = append(b, ',')
		b = appendString(b, f.Name)
		b = append(b, ':')
		if f.number {
			b = append(b, f.Value...)
		} else {
			b = appendString(b, f.Value)
		}
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return append(b, quoted...)
}
