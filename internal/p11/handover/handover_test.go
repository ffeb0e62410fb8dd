package handover

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestStart(t *testing.T) {
	t.Parallel()
	want := Start{PIN: []byte("a \"pin\"\n\x00\xff"), Certificate: []byte("c"), Key: []byte("k"), Client: []byte{1, 2}}
	var b bytes.Buffer
	if err := WriteStart(&b, want); err != nil {
		t.Fatal(err)
	}
	b.WriteString("what follows")
	r := bufio.NewReader(&b)
	got, err := ReadStart(r)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "what follows" {
		t.Errorf("what follows is %q", rest)
	}

	if _, err := ReadStart(bufio.NewReader(strings.NewReader(""))); !errors.Is(err, ErrNoStart) {
		t.Errorf("of nothing: %v", err)
	}
	for name, line := range map[string]string{
		"no JSON":        "topsecret\n",
		"another field":  `{"pin":"dG9wc2VjcmV0","x":1}` + "\n",
		"two objects":    `{"pin":"dG9wc2VjcmV0"}{}` + "\n",
		"no line":        `{"pin":"dG9wc2VjcmV0"}`,
		"another type":   `{"pin":"topsecret!"}` + "\n",
		"a line too far": `{"pin":"` + strings.Repeat("A", maxLine) + `"}` + "\n",
	} {
		_, err := ReadStart(bufio.NewReader(strings.NewReader(line)))
		if err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "dG9wc2Vjc") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	list := []Event{
		{Kind: Ready, Module: "SoftHSM", Token: "t", Serial: "1"},
		{Kind: Beat, Away: true, Cause: "two\nlines"},
		{Kind: End, Reason: PINWrong, Cause: "why"},
	}
	var b bytes.Buffer
	for _, e := range list {
		if err := WriteEvent(&b, e); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(&b)
	for _, want := range list {
		if got, err := ReadEvent(r); err != nil || got != want {
			t.Errorf("%+v, %v; expected %+v", got, err, want)
		}
	}
	if _, err := ReadEvent(r); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for reason, want := range map[Reason]int{Failed: 1, NoModule: 3, NoToken: 4, PINWrong: 5, ModuleHung: 6, TokenLost: 7, "": 1, "other": 1} {
		if got := reason.Status(); got != want {
			t.Errorf("%q has the status %d, expected %d", reason, got, want)
		}
	}
}

// FuzzReadEvent: what is read is written back as it was, or refused.
func FuzzReadEvent(f *testing.F) {
	f.Add([]byte(`{"event":"beat","away":true,"cause":"x"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ReadEvent(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteEvent(&b, e); err != nil {
			t.Fatal(err)
		}
		again, err := ReadEvent(bufio.NewReader(&b))
		if err != nil || again != e {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
