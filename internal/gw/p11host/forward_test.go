package p11host

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestForward: what the helper logs keeps its level and its fields, what a
// module prints is passed on as it is, and of a crash no registers are.
func TestForward(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	f := &forward{log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: drop}))}
	write := func(s string) {
		t.Helper()
		if n, err := f.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	write(`{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"the token is lost","token":"gw","n":3}` + "\n")
	write("the module")
	write(" prints\n\n{\"not\":\"a record\"}\n{\n" + strings.Repeat("x", 2*maxMessage) + "\n")
	if got := f.last(); !strings.HasPrefix(got, "; it said last: xxx") || len(got) > maxMessage+100 {
		t.Errorf("it said last %q", got)
	}
	write("SIGSEGV: segmentation violation\nrax 0x5ec4e7\n")
	write("rbx 0x5ec4e7\n")
	if got := f.last(); got != "; it crashed: SIGSEGV: segmentation violation" {
		t.Errorf("it said last %q", got)
	}
	want := []string{
		`level=WARN msg="moongate-p11: the token is lost" n=3 token=gw`, `line="the module prints"`,
		`line="{\"not\":\"a record\"}"`, `line={`, `line="SIGSEGV: segmentation violation"`,
	}
	for _, text := range want {
		if !strings.Contains(log.String(), text) {
			t.Errorf("%s is missing in\n%s", text, &log)
		}
	}
	if strings.Contains(log.String(), "5ec4e7") {
		t.Errorf("a register is in\n%s", &log)
	}
}
