package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
)

// Monitor: logs, sessions, jobs.

const (
	sessionsPage = "/monitor/sessions"
	jobsPage     = "/monitor/jobs"
)

func monitorRoutes() []route {
	list := []route{
		{"GET " + sessionsPage, showSessions},
		{"GET " + sessionsPage + "/list", sessionsPart},
		{"POST " + sessionsPage + "/end", endSession},
		{"GET " + jobsPage, showJobs},
	}
	for _, l := range logPages {
		list = append(list,
			route{"GET " + l.path(), l.page},
			route{"GET " + l.path() + "/rows", l.rows},
			route{"GET " + l.path() + "/entry/{seq}", l.entry},
		)
	}
	return list
}

// logPageOf is the page of one log.
type logPageOf struct {
	Log     logstore.Log
	Title   string
	Columns []column
	// Quick are filters at one click.
	Quick []Choice
}

// column is a field of a log's entries, as a table has it.
type column struct{ Field, Title string }

var flowColumns = []column{
	{"receive_time", "Time"}, {"src", "Source"}, {"target", "Destination"}, {"sni", "Server Name"}, {"proxy_type", "Proxy Type"}, {"rule", "Rule"}, {"action", "Action"},
	{"tls_version", "TLS"}, {"chain_status", "Certificate"}, {"error", "Error"},
}

var logPages = []*logPageOf{
	{Log: logstore.Decryption, Title: "Decryption", Columns: flowColumns, Quick: []Choice{
		{"( error neq '' )", "Failures"}, {"( action eq no-decrypt )", "Not decrypted"}, {"( chain_status neq trusted )", "Untrusted"}, {"( tls_version eq 'TLS 1.2' )", "TLS 1.2"}}},
	{Log: logstore.Traffic, Title: "Traffic", Columns: append(flowColumns[:7:7], column{"bytes", "Bytes"}, column{"elapsed", "Milliseconds"}), Quick: []Choice{
		{"( action eq block )", "Blocked"}}},
	{Log: logstore.System, Title: "System", Columns: []column{{"receive_time", "Time"}, {"severity", "Severity"}, {"subtype", "Type"}, {"eventid", "Event"}, {"object", "Object"}, {"opaque", "Description"}}, Quick: []Choice{
		{"( severity geq high )", "High and critical"}, {"( subtype eq hsm )", "HSM"}}},
	{Log: logstore.Config, Title: "Configuration", Columns: []column{{"receive_time", "Time"}, {"admin", "Administrator"}, {"client", "Client"}, {"host", "From"}, {"cmd", "Command"}, {"path", "Path"}, {"result", "Result"}}, Quick: []Choice{
		{"( result contains fail )", "Refused"}}},
}

func (l *logPageOf) path() string { return "/monitor/" + string(l.Log) }

// ranges are the times that a log can be bounded to.
var ranges = []Choice{
	{"", "All"}, {"last-15-minutes", "Last 15 minutes"}, {"last-hour", "Last hour"}, {"last-6-hrs", "Last 6 hours"}, {"last-24-hrs", "Last 24 hours"}, {"last-7-days", "Last 7 days"}, {"last-30-days", "Last 30 days"},
}

const rowsPerPage = 50

// logData is what is shown of a log.
type logData struct {
	Page    *logPageOf
	Filter  string
	Range   string
	Skip    int
	Live    bool
	Entries []logstore.Entry
	More    bool
	Problem string
}

// ask reads the address's filter and asks for the entries.
func (l *logPageOf) ask(v *visit) (logData, error) {
	q := v.r.URL.Query()
	d := logData{Page: l, Filter: strings.TrimSpace(q.Get("filter")), Range: q.Get("range"), Live: q.Get("live") == "yes"}
	d.Skip, _ = strconv.Atoi(q.Get("skip")) // what is no number is the beginning
	d.Skip = max(0, d.Skip)
	filter := d.Filter
	for _, r := range ranges[1:] {
		if r.Value != d.Range {
			continue
		}
		term := "( receive_time in " + r.Value + " )"
		if filter == "" {
			filter = term
		} else {
			filter = "( " + filter + " ) and " + term
		}
	}
	entries, err := v.m().Logs(v.ctx(), v.who(), logstore.Query{Log: l.Log, Filter: filter, Limit: rowsPerPage + 1, Skip: d.Skip})
	if logstore.IsFilterError(err) {
		d.Problem = words(err)
		return d, nil
	}
	if err != nil {
		return d, err
	}
	if d.More = len(entries) > rowsPerPage; d.More {
		entries = entries[:rowsPerPage]
	}
	d.Entries = entries
	return d, nil
}

func (l *logPageOf) page(v *visit) error {
	d, err := l.ask(v)
	if err != nil {
		return err
	}
	status := 0
	if d.Problem != "" {
		status = http.StatusUnprocessableEntity
	}
	return v.page(Page{Title: l.Title, Path: l.path(), Status: status}, logView(d))
}

func (l *logPageOf) rows(v *visit) error {
	d, err := l.ask(v)
	if err != nil {
		return err
	}
	return v.part(0, logRows(d))
}

func (l *logPageOf) entry(v *visit) error {
	seq, err := strconv.ParseInt(v.r.PathValue("seq"), 10, 64)
	if err != nil {
		return missing(v)
	}
	list, err := v.m().Logs(v.ctx(), v.who(), logstore.Query{Log: l.Log, Filter: fmt.Sprintf("( seqno eq %d )", seq), Limit: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		v.w.WriteHeader(http.StatusNotFound)
		return v.page(Page{Title: l.Title, Path: l.path()}, message("There is no such entry", "It may have been removed since: logs have bounds."))
	}
	var r *flow.Record
	if len(list[0].Record) > 0 {
		r = new(flow.Record)
		if err := json.Unmarshal(list[0].Record, r); err != nil {
			return fmt.Errorf("reading a flow record: %w", err)
		}
	}
	return v.page(Page{Title: l.Title + " entry", Path: l.path()}, entryView(l, &list[0], r))
}

// with is the page's address with other parameters.
func (d logData) with(more ...string) string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		} else {
			q.Del(name)
		}
	}
	set("filter", d.Filter)
	set("range", d.Range)
	if d.Live {
		q.Set("live", "yes")
	}
	for i := 0; i+1 < len(more); i += 2 {
		set(more[i], more[i+1])
	}
	if len(q) == 0 {
		return d.Page.path()
	}
	return d.Page.path() + "?" + q.Encode()
}

// likelyFix is what usually mends a failure of a flow, "" where nothing is
// known.
func likelyFix(r *flow.Record) string {
	if r.FailureStage == "" {
		return ""
	}
	cause := r.FailureCause
	for _, known := range []struct{ part, fix string }{
		{"HSM", "See Device > Setup > HSM: the checklist names the step that fails and what to do."},
		{"unknown certificate authority", "The client does not trust the forward-trust CA: install it there. A pinned application needs a no-decrypt rule."},
		{"bad certificate", "The client refused the certificate: it does not trust the forward-trust CA, or it pins the server's own. Install the CA, or add a no-decrypt rule for the host."},
		{"certificate unknown", "The client refused the certificate: install the forward-trust CA on it, or add a no-decrypt rule for a host that it pins."},
		{"expired", "The server's certificate has expired. Its owner must renew it; a profile decides whether it is blocked."},
		{"untrusted", "The server's chain does not end in a trusted root: add its CA as Trusted Root CA, where it is yours."},
		{"self-signed", "The server's certificate is its own issuer: add it as Trusted Root CA, where it is yours."},
		{"protocol version", "Client and server have no TLS version in common that the profile allows: see its Min Version."},
		{"refused", "Nothing listens at the server's port."},
		{"no such host", "The server's name does not resolve: check the gateway's resolver."},
		{"timeout", "The server, or the way to it, did not answer in time."},
	} {
		if strings.Contains(strings.ToLower(cause), strings.ToLower(known.part)) {
			return known.fix
		}
	}
	return ""
}

// maxSessions shown at a time.
const maxSessionRows = 200

type sessionsData struct {
	List   []plane.Session
	Info   plane.SessionInfo
	Filter string
	May    bool
	Token  string
}

func (v *visit) sessionsData() (d sessionsData, err error) {
	d = sessionsData{Filter: strings.TrimSpace(v.r.URL.Query().Get("filter")), May: v.may(admin.OpClearSessions), Token: v.s.token}
	if d.Info, err = v.m().SessionInfo(v.ctx(), v.who()); err != nil {
		return d, err
	}
	d.List, err = v.m().Sessions(v.ctx(), v.who(), func(s *plane.Session) bool {
		return d.Filter == "" || strings.Contains(s.Client, d.Filter) || strings.Contains(s.Target, d.Filter) || strings.Contains(s.SNI, d.Filter) || s.Rule == d.Filter
	})
	if len(d.List) > maxSessionRows {
		d.List = d.List[:maxSessionRows]
	}
	return d, err
}

func showSessions(v *visit) error {
	d, err := v.sessionsData()
	if err != nil {
		return err
	}
	return v.page(Page{Title: "Sessions", Path: sessionsPage}, sessionsView(d))
}

func sessionsPart(v *visit) error {
	d, err := v.sessionsData()
	if err != nil {
		return err
	}
	return v.part(0, sessionRows(d))
}

func endSession(v *visit) error {
	id, err := strconv.ParseUint(v.form.Text("id"), 10, 64)
	if err != nil {
		return missing(v)
	}
	if err := v.m().EndSession(v.ctx(), v.who(), id); err != nil {
		return v.sorry(sessionsPage, err)
	}
	return v.done(sessionsPage, fmt.Sprintf("Session %d was ended.", id))
}

func showJobs(v *visit) error {
	list, err := v.m().Jobs(v.ctx(), v.who())
	if err != nil {
		return err
	}
	return v.page(Page{Title: "Jobs", Path: jobsPage}, jobsView(newestFirst(list)))
}

func newestFirst(list []jobs.Job) []jobs.Job {
	out := make([]jobs.Job, 0, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		out = append(out, list[i])
	}
	if len(out) > 1 && out[0].ID < out[1].ID {
		return list // they came so
	}
	return out
}
