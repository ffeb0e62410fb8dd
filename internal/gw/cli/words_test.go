package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want []word
		err  string
	}{
		{"", nil, ""},
		{"  show\tsystem  info ", []word{{Text: "show"}, {Text: "system"}, {Text: "info"}}, ""},
		{`set x "a b" [ c ]`, []word{{Text: "set"}, {Text: "x"}, {Text: "a b", Quoted: true}, {Text: "["}, {Text: "c"}, {Text: "]"}}, ""},
		{`"a\nb\t\"\\"`, []word{{Text: "a\nb\t\"\\", Quoted: true}}, ""},
		{`a"b`, []word{{Text: `a"b`}}, ""},
		{`""`, []word{{Text: "", Quoted: true}}, ""},
		{`"a`, nil, "ends within quotation marks"},
		{`"a\`, nil, "ends within quotation marks"},
		{`"a\x"`, nil, `\x is not known`},
		{`"a"b`, nil, "white space is expected"},
		{strings.Repeat("x ", maxWords+1), nil, "more than 1000 words"},
	} {
		got, err := split(test.text)
		if test.err == "" && (err != nil || !slices.Equal(got, test.want)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%.40q: %+v, %v", test.text, got, err)
		}
	}
}

// FuzzLine: whatever is typed, the words that it has can be typed again.
func FuzzLine(f *testing.F) {
	f.Add(`set rulebase decryption rules "a b" source [ any ] | match "x|y" | count`)
	f.Add(`"a\n\t\"\\" | except \`)
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := parseLine(text); err == nil {
			apply(l.pipes, "one\ntwo\n")
		}
		words, err := split(text)
		if err != nil || strings.ContainsRune(text, '\r') {
			return
		}
		again, err := split(strings.Join(quoteAll(texts(words)), " "))
		if err != nil || !slices.Equal(texts(again), texts(words)) {
			t.Errorf("%+v, then %+v, %v", words, again, err)
		}
	})
}

func TestFilters(t *testing.T) {
	t.Parallel()
	const text = "alpha 1\nBeta 2\ngamma 3\n"
	for _, test := range []struct{ line, want, err string }{
		{"show x", text, ""},
		{"show x | match beta", "Beta 2\n", ""},
		{"show x | except a$ | match [13]", "alpha 1\ngamma 3\n", ""},
		{`show x | match "1|2"`, "alpha 1\nBeta 2\n", ""},
		{"show x | match zzz", "", ""},
		{"show x | count", "Count: 3 lines\n", ""},
		{"show x | match a | count", "Count: 3 lines\n", ""},
		{"show x |", "", "nothing after |"},
		{"show x | grep a", "", `unknown filter, got "grep", expected match, except, count, json, xml`},
		{"show x | match", "", "takes one regular expression"},
		{"show x | match (", "", "no regular expression"},
		{"show x | json please", "", "takes no word after it"},
		{"show x" + strings.Repeat(" | match a", 9), "", "more than 8 filters"},
	} {
		l, err := parseLine(test.line)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", test.line, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
		} else if got := apply(l.pipes, text); got != test.want {
			t.Errorf("%s: %q", test.line, got)
		}
	}
	l, err := parseLine("show x | json | match a")
	if err != nil || formatOf(l.pipes, braces) != asJSON {
		t.Errorf("json is not seen: %v, %v", l, err)
	}
}
