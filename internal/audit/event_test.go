package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
)

func fullEvent() Event {
	return Event{
		Seq: 17, Time: time.Date(2026, 1, 2, 15, 4, 5, 60, time.UTC),
		Kind: Use, Action: "key.sign", Op: [16]byte{0x01, 0x23, 15: 0xff}, Client: "web-1", Remote: "10.0.0.7:40112", Partition: "p1", Role: "co",
		Object: [16]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11, 0x22, 15: 1}, Mechanism: "ECDSA_SHA256", Outcome: OK, Detail: "once",
	}
}

// The format is a promise to verifiers that are not this program.
func TestRecordFormat(t *testing.T) {
	t.Parallel()
	e := fullEvent()
	const want = `{"seq":17,"time":"2026-01-02T15:04:05.000000060Z","kind":"use","action":"key.sign","op":"012300000000000000000000000000ff",` +
		`"client":"web-1","remote":"10.0.0.7:40112","partition":"p1","role":"co","object":"12345678-9abc-def0-1122-000000000001",` +
		`"mechanism":"ECDSA_SHA256","outcome":"ok","detail":"once"}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	least := Event{Kind: Login, Action: "login", Outcome: "PIN_INCORRECT"}
	const wantLeast = `{"seq":0,"time":"0001-01-01T00:00:00.000000000Z","kind":"login","action":"login","outcome":"PIN_INCORRECT"}`
	if got := string(least.AppendJSON(nil)); got != wantLeast {
		t.Errorf("got  %s\nwant %s", got, wantLeast)
	}
	for _, e := range []Event{e, least} {
		got, err := ParseRecord(e.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// Whatever a name holds, it stays one line of printable ASCII and one JSON
// string, and JSON's own reader sees what was meant.
func TestRecordIsInjectionSafe(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"a\nb", "a\r\n", "\x00", "\x1b[2J", "\x7f", "\u0085", "\u2028", "\u202e", "\"},{\"seq\":1", `\`, `\n`, `\u000a`, "é", "🌙", "\uFFFD", "\xff", "a\xc3", "\xed\xa0\x80",
		strings.Repeat("\x01", 5000), strings.Repeat("🌙", 5000), strings.Repeat("\xff", 5000), strings.Repeat("a\xff", 600), strings.Repeat("x", 1024), strings.Repeat("x", 1025),
	} {
		e := Event{Kind: Kind(text), Action: text, Client: text, Remote: text, Partition: text, Role: text, Mechanism: text, Outcome: text, Detail: text}
		line := e.AppendJSON(nil)
		if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("%.20q: byte %#x in the line", text, line[i])
		}
		if len(line) >= maxLine {
			t.Errorf("%.20q: a line of %d bytes", text, len(line))
		}
		var got struct{ Detail string }
		if err := json.Unmarshal(line, &got); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
		want := strings.ToValidUTF8(text, "\uFFFD")
		if len(text) <= maxDetail && len(want) <= maxDetail {
			if got.Detail != want {
				t.Errorf("%.20q became %.20q", text, got.Detail)
			}
		} else if len(got.Detail) > maxDetail || !strings.HasSuffix(got.Detail, " bytes)") || !utf8.ValidString(got.Detail) {
			t.Errorf("%.20q was cut to %.20q...%q", text, got.Detail, got.Detail[len(got.Detail)-20:])
		}
		parsed, err := ParseRecord(line)
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
		if parsed.Detail != got.Detail {
			t.Errorf("%.20q: parsed as %.20q", text, parsed.Detail)
		}
	}
}

func TestCutSaysHowMuch(t *testing.T) {
	t.Parallel()
	e := Event{Kind: Use, Action: "a", Outcome: OK, Role: strings.Repeat("r", 40)}
	got, err := ParseRecord(e.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("r", 18) + "...(+22 bytes)"; got.Role != want {
		t.Errorf("role %q, want %q", got.Role, want)
	}
}

func TestParseRecordIsStrict(t *testing.T) {
	t.Parallel()
	e := fullEvent()
	good := string(e.AppendJSON(nil))
	for name, edit := range map[string][2]string{
		"space":              {`{"seq"`, `{ "seq"`},
		"leading zero":       {`"seq":17`, `"seq":017`},
		"sign":               {`"seq":17`, `"seq":-17`},
		"no number":          {`"seq":17`, `"seq":`},
		"number too large":   {`"seq":17`, `"seq":9007199254740992`},
		"number much larger": {`"seq":17`, `"seq":99999999999999999999`},
		"short fraction":     {`.000000060Z`, `.00000006Z`},
		"comma fraction":     {`.000000060Z`, `,000000060Z`},
		"time zone":          {`.000000060Z`, `.00000006+0`},
		"no such day":        {`2026-01-02`, `2026-02-30`},
		"order":              {`"kind":"use","action":"key.sign"`, `"action":"key.sign","kind":"use"`},
		"missing":            {`"kind":"use",`, ``},
		"empty required":     {`"kind":"use"`, `"kind":""`},
		"empty optional":     {`"role":"co"`, `"role":""`},
		"twice":              {`"role":"co"`, `"role":"co","role":"co"`},
		"unknown":            {`"role":"co"`, `"role":"co","roll":"co"`},
		"upper-case hex":     {`ff","client`, `FF","client`},
		"zero op":            {`012300000000000000000000000000ff`, `00000000000000000000000000000000`},
		"short op":           {`012300000000000000000000000000ff`, `0123`},
		"bad UUID":           {`12345678-9abc`, `123456789-abc`},
		"needless escape":    {`web-1`, `\u0077eb-1`},
		"escaped slash":      {`web-1`, `web\/1`},
		"short escape":       {`web-1`, `web\n1`},
		"upper-case escape":  {`web-1`, `\u00E9`},
		"lone surrogate":     {`web-1`, `\ud83c`},
		"raw UTF-8":          {`web-1`, `é`},
		"control character":  {`web-1`, "web\t1"},
		"too long":           {`web-1`, strings.Repeat("w", maxClient+1)},
		"trailing bytes":     {`"once"}`, `"once"} `},
		"unfinished":         {`"once"}`, `"once"`},
		"unfinished string":  {`"once"}`, `"once`},
		"unfinished escape":  {`"once"}`, `"once\u00`},
		"null byte":          {`"once"}`, "\"once\"}\x00"},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		if bad == good {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := ParseRecord([]byte(bad)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: accepted %s", name, bad)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	e := fullEvent()
	f.Add(e.AppendJSON(nil))
	e.Client, e.Detail, e.Op = "\"\\\n é 🌙\u2028", strings.Repeat("long ", 300), [16]byte{}
	f.Add(e.AppendJSON(nil))
	f.Add([]byte(`{"seq":1,"time":"2026-01-02T15:04:05.000000060Z","kind":"\ud83c\udf19","action":"a","outcome":"ok"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseRecord(line)
		if seq, ok := parseSeq(line); err == nil && (!ok || seq != e.Seq) {
			t.Errorf("parseSeq says %d, %v; ParseRecord %d", seq, ok, e.Seq)
		}
		if err != nil {
			return
		}
		if again := e.AppendJSON(nil); !bytes.Equal(again, line) {
			t.Errorf("accepted %q, which encodes as %q", line, again)
		}
		if !json.Valid(line) {
			t.Errorf("accepted what is no JSON: %q", line)
		}
	})
}

// FuzzAppendJSON: whatever the fields hold, the line parses, and to itself.
func FuzzAppendJSON(f *testing.F) {
	f.Add("use", "key.sign", "web-1", "ok", "détail\n", int64(5))
	f.Add("\xff", strings.Repeat("\xffa", 400), "\u2028", "\"", "\\", int64(-1))
	f.Fuzz(func(t *testing.T, kind, action, client, outcome, detail string, nano int64) {
		e := Event{Kind: Kind(kind), Action: action, Client: client, Role: client, Outcome: outcome, Detail: detail, Time: time.Unix(0, nano).UTC()}
		if kind == "" || action == "" || outcome == "" {
			return
		}
		line := e.AppendJSON(nil)
		got, err := ParseRecord(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !got.Time.Equal(e.Time) {
			t.Errorf("time %v became %v", e.Time, got.Time)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	signerKey, verifierKey, err := note.GenerateKey(zeroes{}, testOrigin)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(signerKey)
	if err != nil {
		f.Fatal(err)
	}
	derived, err := verifierKeyOf(signerKey)
	if err != nil || derived != verifierKey {
		f.Fatalf("derived verifier key %q, %v; want %q", derived, err, verifierKey)
	}
	var tree frontier
	tree.push([32]byte{1}, nil)
	signed := signTest(f, checkpoint{tree: tree.tree()}, signer)
	anchored := signTest(f, checkpoint{tree: tree.tree(), anchor: 42, anchored: true}, signer)
	f.Add(append(bytes.Clone(signed), '\n'), testOrigin+"\n1\n"+tree.root().String()+"\n")
	f.Add(append(bytes.Clone(anchored), '\n'), testOrigin+"\n1\n"+tree.root().String()+"\nanchor 42\n")
	f.Add([]byte(testOrigin+"\nx\n\n\n"+testOrigin+"\n"), testOrigin+"\n01\n\n")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		// Nothing is lost or read twice, and what passes for a note was signed.
		var total int64
		for r := newCheckpointReader(bytes.NewReader(file), testOrigin); ; {
			e, err := r.next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			total += e.size
			if !e.whole {
				continue
			}
			if _, err := ParseCheckpoint(e.note(), verifierKey); err == nil && !bytes.Equal(e.note(), signed) && !bytes.Equal(e.note(), anchored) {
				t.Errorf("a checkpoint nobody signed: %q", e.note())
			}
		}
		if total != int64(len(file)) {
			t.Errorf("entries of %d bytes in a file of %d", total, len(file))
		}
		// One text for each tree.
		c, err := parseCheckpointText(text, testOrigin)
		if err != nil {
			return
		}
		if again := signTest(t, c, signer); !bytes.HasPrefix(again, []byte(text)) {
			t.Errorf("accepted %q, which is written as %q", text, again)
		}
	})
}

func signTest(t testing.TB, c checkpoint, signer note.Signer) []byte {
	t.Helper()
	if err := c.sign(signer); err != nil {
		t.Fatal(err)
	}
	return c.note
}

// zeroes makes the fuzz target's key the same in every process.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }
