package ops

import (
	"context"
	"strconv"
	"strings"

	"moongate/internal/gw/logstore"
)

func logCommands() []*Command {
	var list []*Command
	helps := map[logstore.Log]string{
		logstore.Traffic:    "Show the traffic log: every flow",
		logstore.Decryption: "Show the decryption log: flows with TLS, their legs and what was decided",
		logstore.System:     "Show the system log",
		logstore.Config:     "Show the configuration log: who changed what",
	}
	for _, log := range logstore.Logs() {
		args := []Arg{
			{Name: "query", Equal: true, Value: "filter", Help: "Only what the filter matches: ( rule eq 'x' ) and ( addr.src in 10.0.0.0/8 )"},
			{Name: "direction", Equal: true, Kind: Choice, Help: "Which end comes first", Choices: []Option{
				{"backward", "The newest first"}, {"forward", "The oldest first"}}},
			{Name: "nlogs", Equal: true, Kind: Number, Min: 1, Max: 5000, Value: "1-5000", Help: "How many at most, 100 by default"},
			{Name: "skip", Equal: true, Kind: Number, Value: "number", Help: "Leave out so many before"},
		}
		if log == logstore.System {
			args = append(args, Arg{Name: "severity", Equal: true, Kind: Choice, Help: "Of this severity", Choices: []Option{
				{"informational", ""}, {"low", ""}, {"medium", ""}, {"high", ""}, {"critical", ""}}})
		}
		list = append(list, &Command{Words: "show log " + string(log), Help: helps[log], Args: args, run: showLog(log)})
	}
	return list
}

// columns are what a terminal shows of a log; everything is in the XML.
var columns = map[logstore.Log][]string{
	logstore.Traffic:    {"receive_time", "src", "target", "action", "rule", "bytes", "error"},
	logstore.Decryption: {"receive_time", "src", "target", "action", "rule", "tls_version", "chain_status", "error"},
	logstore.System:     {"receive_time", "severity", "subtype", "eventid", "object", "opaque"},
	logstore.Config:     {"receive_time", "admin", "client", "host", "cmd", "result", "path"},
}

func showLog(log logstore.Log) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		q := logstore.Query{Log: log, Filter: in.Value("query"), Limit: 100, Skip: number(in, "skip"), Oldest: in.Value("direction") == "forward"}
		if in.Has("nlogs") {
			q.Limit = number(in, "nlogs")
		}
		if severity := in.Value("severity"); severity != "" {
			only := "( severity eq " + severity + " )"
			if q.Filter != "" {
				only += " and ( " + q.Filter + " )"
			}
			q.Filter = only
		}
		entries, err := in.m.Logs(ctx, in.caller, q)
		if err != nil {
			return nil, err
		}
		heading := make([]string, len(columns[log]))
		for i, name := range columns[log] {
			heading[i] = strings.ReplaceAll(name, "_", " ")
		}
		g := newGrid(heading...)
		for i := range entries {
			cells := make([]string, len(columns[log]))
			for k, name := range columns[log] {
				cells[k] = oneLine(entries[i].Get(name))
			}
			g.row(cells...)
		}
		logs := E("logs", LogEntries(entries)...).With("count", strconv.Itoa(len(entries))).With("progress", "100")
		return &Result{Elements: []*Element{E("log", logs)}, Text: g.text()}, nil
	}
}

func oneLine(text string) string {
	return strings.NewReplacer("\n", "; ", "\t", " ", "\r", "").Replace(text)
}

// LogEntries are entries of a log as the API has them.
func LogEntries(entries []logstore.Entry) []*Element {
	list := make([]*Element, len(entries))
	for i := range entries {
		e := E("entry").With("logid", strconv.FormatInt(entries[i].Seq, 10))
		for _, f := range entries[i].Fields {
			e.Add(T(f.Name, f.Value))
		}
		list[i] = e
	}
	return list
}
