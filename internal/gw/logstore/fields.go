package logstore

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/flow"
)

// kind says how a field is stored, compared and shown.
type kind int

const (
	text     kind = iota // TEXT, compared byte by byte
	word                 // TEXT, compared without regard to ASCII case
	number               // INTEGER
	instant              // INTEGER, microseconds since 1970
	address              // BLOB: see addressKey
	severity             // INTEGER, shown as a word
)

// field is a column of a database, and under the same name a field of entries
// and filters.
type field struct {
	name string
	kind kind
	also []string // other names in filters
}

// column is the name in SQL; the names are constants of this file.
func (f field) column() string { return `"` + f.name + `"` }

// The first field of every database is the time of receipt.
const timeField = 0

var flowFields = []field{
	{"receive_time", instant, nil},
	{"start", instant, []string{"time_generated"}},
	{"sessionid", text, []string{"id"}},
	{"src", address, []string{"addr.src"}},
	{"sport", number, []string{"port.src"}},
	{"dst", address, []string{"addr.dst"}},
	{"dport", number, []string{"port.dst"}},
	{"proxy_type", word, []string{"kind"}},
	{"target", text, nil},
	{"sni", word, nil},
	{"rule", text, []string{"policy_name"}},
	{"action", word, nil},
	{"reason", text, nil},
	{"elapsed", number, nil}, // milliseconds
	{"bytes", number, nil},
	{"bytes_sent", number, nil}, // client to server
	{"bytes_received", number, nil},
	{"tls_version", word, nil}, // of the client's leg; of the server's where there is no other
	{"tls_cipher", word, nil},
	{"tls_keyxchg", word, nil},
	{"server_tls_version", word, nil},
	{"server_tls_cipher", word, nil},
	{"subject", text, []string{"cn"}}, // of the server's certificate
	{"issuer", text, nil},
	{"fingerprint", word, nil},
	{"chain_status", word, []string{"verdict"}},
	{"revocation", word, nil},
	{"authority", text, nil},
	{"leaf_cached", word, nil}, // yes, no
	{"hsm_calls", number, nil},
	{"hsm_time", number, nil},                      // milliseconds
	{"err_index", word, []string{"failure_stage"}}, // the step that failed
	{"error", text, []string{"failure_cause"}},     // why
	{"tls", word, nil},                             // yes: the decryption log has it
}

var systemFields = []field{
	{"receive_time", instant, nil},
	{"subtype", word, nil},
	{"severity", severity, nil},
	{"eventid", word, nil},
	{"object", text, nil},
	{"opaque", text, []string{"description"}},
}

var configFields = []field{
	{"receive_time", instant, nil},
	{"host", text, nil},
	{"cmd", word, nil},
	{"admin", text, nil},
	{"client", word, nil},
	{"result", text, nil},
	{"path", text, nil},
	{"before-change-detail", text, []string{"before"}},
	{"after-change-detail", text, []string{"after"}},
}

// fieldsOf are the fields of a log's database.
func fieldsOf(log Log) []field {
	switch log {
	case System:
		return systemFields
	case Config:
		return configFields
	}
	return flowFields
}

// Bounds of what is stored, in bytes; what is longer is cut.
const (
	maxFlowText   = 2 << 10
	maxEventText  = 8 << 10
	maxChangeText = 64 << 10
)

// clean makes a text what the database and its functions take: valid UTF-8
// without NUL, bounded.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return s
}

// micros is a time as it is stored.
func micros(t time.Time) int64 { return t.UnixMicro() }

// addressKey orders addresses such that those of a prefix are one range: the
// family, then the bytes. Empty for no address.
func addressKey(a netip.Addr) []byte {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return append([]byte{4}, b[:]...)
	case a.Is6():
		b := a.As16()
		return append([]byte{6}, b[:]...)
	}
	return []byte{}
}

func keyAddress(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	a, ok := netip.AddrFromSlice(key[1:])
	if !ok {
		return ""
	}
	return a.String()
}

// split is an address:port's key and port.
func split(s string) ([]byte, int64) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return []byte{}, 0
	}
	return addressKey(a.Addr()), int64(a.Port())
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// plainHTTP is the action of a flow that has no TLS.
const plainHTTP = "plain"

func flowValues(r *flow.Record, now time.Time) []any {
	src, sport := split(r.Client)
	dst, dport := split(r.Server)
	cut := func(s string) string { return clean(s, maxFlowText) }
	var none flow.Leg
	client, server := r.ClientLeg, r.ServerLeg
	if server == nil {
		server = &none
	}
	if client == nil {
		client = server
	}
	certificate := server.Certificate
	if certificate == nil {
		certificate = &flow.Certificate{}
	}
	version := func(leg *flow.Leg) string { return strings.ReplaceAll(leg.Version, " ", "") }
	millis := func(d flow.Millis) int64 { return time.Duration(d).Milliseconds() }
	return []any{
		micros(now), micros(r.Start), cut(r.ID), src, sport, dst, dport, cut(string(r.Kind)), cut(r.Target), cut(r.SNI),
		cut(r.Rule), cut(r.Action), cut(r.Reason), millis(r.Duration), r.BytesUp + r.BytesDown, r.BytesUp, r.BytesDown,
		version(client), client.Cipher, client.Group, version(server), server.Cipher,
		cut(certificate.Subject), cut(certificate.Issuer), cut(certificate.SHA256), cut(string(r.Verdict)), cut(r.Revocation),
		cut(r.Authority), yes(r.Cached), r.HSMCalls, millis(r.HSMTime), cut(string(r.FailureStage)), cut(r.FailureCause),
		yes(r.Action != plainHTTP),
	}
}

func eventValues(e *Event, now time.Time) []any {
	if !e.Time.IsZero() {
		now = e.Time
	}
	cut := func(s string) string { return clean(s, maxEventText) }
	return []any{
		micros(now), cut(e.Type), int64(min(max(e.Severity, Informational), Critical)), cut(e.EventID), cut(e.Object), cut(e.Description),
	}
}

func changeValues(c *Change, now time.Time) []any {
	if !c.Time.IsZero() {
		now = c.Time
	}
	cut := func(s string) string { return clean(s, maxChangeText) }
	return []any{
		micros(now), cut(c.From), cut(c.Command), cut(c.Admin), cut(c.Via), cut(c.Result), cut(c.Path), cut(c.Before), cut(c.After),
	}
}

// timeLayout is how interfaces show times, in the zone of this machine.
const timeLayout = "2006/01/02 15:04:05"

// show makes an Entry of what is stored.
func show(log Log, seq int64, values []any, record []byte) Entry {
	fields := fieldsOf(log)
	e := Entry{Log: log, Seq: seq, Record: record, Fields: make([]Field, 0, len(fields)+2)}
	e.Fields = append(e.Fields,
		Field{Name: "seqno", Value: strconv.FormatInt(seq, 10), number: true},
		Field{Name: "type", Value: strings.ToUpper(string(log))})
	for i, f := range fields {
		out := Field{Name: f.name}
		switch v := values[i].(type) {
		case string:
			out.Value = v
		case []byte:
			out.Value = keyAddress(v)
		case int64:
			switch f.kind {
			case instant:
				at := time.UnixMicro(v)
				if i == timeField {
					e.Time = at
				}
				out.Value = at.Format(timeLayout)
			case severity:
				out.Value = Severity(v).String()
			default:
				out.Value, out.number = strconv.FormatInt(v, 10), true
			}
		}
		e.Fields = append(e.Fields, out)
	}
	return e
}
