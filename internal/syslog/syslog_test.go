package syslog

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var testIdentity = identity{facility: FacilityAudit, host: "hsm.example", app: "moongate-hsm", proc: "17"}

func TestFormat(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("", 3600))
	for want, m := range map[string]Message{
		`<109>1 2026-01-02T02:04:05.678901Z hsm.example moongate-hsm 17 key.generate [audit@32473 seq="7" detail="a \"b\" \\ \]"] {"seq":7}`: {
			Severity: Notice, Time: at, ID: "key.generate", Text: `{"seq":7}`,
			Data: []Element{{"audit@32473", []Param{{"seq", "7"}, {"detail", `a "b" \ ]`}}}},
		},
		`<110>1 - hsm.example moongate-hsm 17 - -`: {Severity: Info},
		"<104>1 - hsm.example moongate-hsm 17 a?b?c [x?y n?=\"?1\uFFFD\"][z] \uFEFFé??": {
			Severity: -3, ID: "a b\nc", Data: []Element{{"x]y", []Param{{"n=", "\x001\xff"}}}, {"z", nil}}, Text: "é\n\x7f",
		},
		`<111>1 - hsm.example moongate-hsm 17 ` + strings.Repeat("i", 32) + ` [e k="` + strings.Repeat("é", 512) + `"] ` + strings.Repeat("t", 16<<10): {
			Severity: 99, ID: strings.Repeat("i", 99), Data: []Element{{"e", []Param{{"k", strings.Repeat("é", 999)}}}}, Text: strings.Repeat("t", 99_999),
		},
	} {
		if diff := cmp.Diff(want, string(appendMessage(nil, testIdentity, &m))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := string(appendFrame(nil, []byte("<1>1 x"))); got != "6 <1>1 x" {
		t.Errorf("frame %q", got)
	}
}

// syntax is RFC 5424, section 6, as far as a message of ours goes.
var syntax = regexp.MustCompile(`^<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) ` +
	`(-|(?:\[[!#-<>-\\^-~]{1,32}(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]\x00-\x1f\x7f]|\\["\\\]])*")*\])+)(?: ([^\x00-\x1f\x7f]*))?$`)

func FuzzFormat(f *testing.F) {
	f.Add(5, int64(1), "key.sign", "audit@32473", "seq", `7"\]`, `{"seq":7}`)
	f.Add(-1, int64(-1<<63), "", "", "", "\xff\n", "\uFEFFé")
	f.Fuzz(func(t *testing.T, severity int, at int64, id, element, name, value, text string) {
		m := Message{Severity: severity, Time: time.Unix(at, 0), ID: id, Text: text}
		m.Data = []Element{{element, []Param{{name, value}, {name, value}}}, {element, nil}}
		got := appendMessage(nil, testIdentity, &m)
		if !syntax.Match(got) || len(got) > MaxMessage || !utf8.Valid(got) {
			t.Errorf("%q is no message", got)
		}
		if frame := appendFrame(nil, got); string(frame) != fmt.Sprintf("%d %s", len(got), got) {
			t.Errorf("frame %q", frame)
		}
	})
}

// The largest message is within the limit that is promised.
func TestLargest(t *testing.T) {
	t.Parallel()
	var m Message
	m.Text = strings.Repeat("\u00ff", maxText)
	for range 10 {
		e := Element{ID: strings.Repeat("e", 99)}
		for range maxParam {
			e.Params = append(e.Params, Param{strings.Repeat("n", 99), strings.Repeat(`"`, 2*maxValue)})
		}
		m.Data = append(m.Data, e)
	}
	if got := appendMessage(nil, testIdentity, &m); len(got) > MaxMessage || len(got) < 128<<10 || !syntax.Match(got) {
		t.Errorf("%d bytes", len(got))
	}
}
