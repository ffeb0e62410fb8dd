package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// A Kind groups actions for whoever filters the log.
type Kind string

const (
	Change Kind = "change" // a key or an object was made, altered or destroyed
	Use    Kind = "use"    // a key was used
	Login  Kind = "login"  // somebody proved, or failed to prove, who they are
	Admin  Kind = "admin"  // administration, and what the log says of itself
	Denied Kind = "denied" // a request that the rules refused
)

// OK is the Outcome of what succeeded.
const OK = "ok"

// Actions that the log records of itself, with kind [Admin].
const (
	actionRecovered = "log.recovered" // opened after an unclean stop
	actionLoss      = "log.loss"      // begun anew after an accepted loss
	actionStopped   = "log.stopped"   // a write or an fsync failed
	actionGap       = "log.gap"       // what the failed fsync may have taken, and did
	actionUncounted = "log.uncounted" // key uses that went on without a record
	actionResumed   = "log.resumed"   // recording goes on
	actionPolicy    = "log.policy"    // the policy was set
	actionArchive   = "log.archive"   // segments were moved away
)

// intent is the outcome of a record that comes before its act.
const intent = "intent"

// An Event is one record. The limits are in bytes of UTF-8; what is longer is
// cut and says so. No field may hold a secret.
type Event struct {
	Seq  int64     // record number from 0; set by the log
	Time time.Time // when it was recorded, UTC; set by the log

	Kind      Kind     // required; up to 32 bytes
	Action    string   // required, such as "key.sign"; up to 64 bytes
	Op        [16]byte // operation id, as in the client's log; zero for none
	Client    string   // registered name of the client; up to 256 bytes
	Remote    string   // its address; up to 128 bytes
	Partition string   // up to 128 bytes
	Role      string   // up to 32 bytes
	Object    [16]byte // UUID of the object; zero for none
	Mechanism string   // up to 64 bytes
	Outcome   string   // required: OK, or an error code or text; up to 512 bytes
	Detail    string   // up to 1024 bytes
}

// Limits of the fields of an Event.
const (
	maxKind      = 32
	maxAction    = 64
	maxClient    = 256
	maxRemote    = 128
	maxPartition = 128
	maxRole      = 32
	maxMechanism = 64
	maxOutcome   = 512
	maxDetail    = 1024
)

// maxLine bounds a record's line, newline included: a byte grows to at most
// six by escaping, and names, numbers and punctuation take less than 400.
const maxLine = 400 + 6*(maxKind+maxAction+maxClient+maxRemote+maxPartition+maxRole+maxMechanism+maxOutcome+maxDetail)

// timeLayout has nine digits always, so that a time has one encoding.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

var errIncomplete = errors.New("audit event lacks kind, action or outcome")

// AppendJSON appends the record's line to b, without a newline: the very bytes
// that the log holds for it. Times outside the years 0 to 9999 become zero.
func (e *Event) AppendJSON(b []byte) []byte {
	b = appendHead(b, e.Seq, e.Time)
	return e.appendBody(b)
}

// appendHead begins a line with what is known only when the record's turn comes.
func appendHead(b []byte, seq int64, t time.Time) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	b = append(b, `,"time":"`...)
	b = appendTime(b, t)
	return append(b, '"')
}

// appendBody appends the rest of the line.
func (e *Event) appendBody(b []byte) []byte {
	b = appendField(b, `,"kind":"`, string(e.Kind), maxKind)
	b = appendField(b, `,"action":"`, e.Action, maxAction)
	if e.Op != [16]byte{} {
		b = append(b, `,"op":"`...)
		b = hex.AppendEncode(b, e.Op[:])
		b = append(b, '"')
	}
	b = appendOptional(b, `,"client":"`, e.Client, maxClient)
	b = appendOptional(b, `,"remote":"`, e.Remote, maxRemote)
	b = appendOptional(b, `,"partition":"`, e.Partition, maxPartition)
	b = appendOptional(b, `,"role":"`, e.Role, maxRole)
	if e.Object != [16]byte{} {
		b = append(b, `,"object":"`...)
		b = appendUUID(b, e.Object)
		b = append(b, '"')
	}
	b = appendOptional(b, `,"mechanism":"`, e.Mechanism, maxMechanism)
	b = appendField(b, `,"outcome":"`, e.Outcome, maxOutcome)
	b = appendOptional(b, `,"detail":"`, e.Detail, maxDetail)
	return append(b, '}')
}

func appendOptional(b []byte, key, value string, limit int) []byte {
	if value == "" {
		return b
	}
	return appendField(b, key, value, limit)
}

func appendField(b []byte, key, value string, limit int) []byte {
	b = append(b, key...)
	if len(value) <= limit && isPlain(value) {
		b = append(b, value...)
	} else {
		b = appendEscaped(b, bounded(value, limit))
	}
	return append(b, '"')
}

// isPlain reports whether s stands in a line as it is.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// bounded makes s valid UTF-8 of at most limit bytes. It changes nothing in
// what it returned before, which is what makes the encoding canonical.
func bounded(s string, limit int) string {
	v := strings.ToValidUTF8(s[:min(len(s), limit)], "\uFFFD")
	if len(s) <= limit && len(v) <= limit {
		return v
	}
	// The count is exact for valid UTF-8; each invalid run had become U+FFFD.
	mark := fmt.Sprintf("...(+%d bytes)", len(s)) // as long as the mark can get
	cut := min(limit-len(mark), len(v))
	for cut < len(v) && !utf8.RuneStart(v[cut]) {
		cut--
	}
	return fmt.Sprintf("%s...(+%d bytes)", v[:cut], max(len(s)-cut, 0))
}

func appendEscaped(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			b = appendUnicode(appendUnicode(b, high), low)
		default:
			b = appendUnicode(b, r)
		}
	}
	return b
}

const hexDigits = "0123456789abcdef"

func appendUnicode(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

func appendUUID(b []byte, u [16]byte) []byte {
	for i, c := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// appendTime is timeLayout by hand, for a third of AppendFormat's time.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return append(b, "0001-01-01T00:00:00.000000000Z"...)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond(), 9)
	return append(b, 'Z')
}

// appendDigits appends n as exactly width decimal digits.
func appendDigits(b []byte, n, width int) []byte {
	at := len(b)
	b = append(b, "000000000"[:width]...)
	for i := at + width - 1; n > 0 && i >= at; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
