package ops

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"moongate/internal/gw/mgmt"
	"moongate/internal/xmltext"
)

// TestParseXML has commands as clients of the API send them.
func TestParseXML(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ xml, want string }{
		{"<show><system><info></info></system></show>", "show system info"},
		{"<?xml version='1.0' encoding='utf-8'?>\n<show><clock/></show>", "show clock"},
		{"<show>\n <system>\n  <info/>\n </system>\n</show>", "show system info"},
		{"<show><jobs><id>7</id></jobs></show>", "show jobs id 7"},
		{"<show><jobs><id>\n7\n</id></jobs></show>", "show jobs id 7"},
		{"<show><session><all><filter><ssl-decrypt>yes</ssl-decrypt><source>192.0.2.1</source></filter></all></session></show>",
			"show session all filter ssl-decrypt yes source 192.0.2.1"},
		{"<load><config><from>running-config.xml</from></config></load>", "load config from running-config.xml"},
		{"<load><config><version>3</version></config></load>", "load config version 3"},
		{"<request><config-lock><add /></config-lock></request>", "request config-lock add"},
		{"<request><config-lock><add><comment>hands off</comment></add></config-lock></request>", `request config-lock add comment "hands off"`},
		{"<request><commit-lock><remove><admin>joe</admin></remove></commit-lock></request>", "request commit-lock remove admin joe"},
		{"<show><config-locks><vsys>all</vsys></config-locks></show>", "show config-locks vsys all"},
		{"<show><commit-locks /></show>", "show commit-locks"},
		{"<validate><full></full></validate>", "validate full"},
		{"<check><pending-changes></pending-changes></check>", "check pending-changes"},
		{"<show><config><candidate></candidate></config></show>", "show config candidate"},
		{"<show><plugins><packages></packages></plugins></show>", "show plugins packages"},
		{"<show><rule-hit-count><vsys><vsys-name><entry name='vsys1'><rule-base><entry name='decryption'><rules><all></all></rules></entry></rule-base></entry></vsys-name></vsys></rule-hit-count></show>",
			"show rule-hit-count vsys vsys-name vsys1 rule-base decryption rules all"},
		{"<show><rule-hit-count><vsys><vsys-name><entry name='vsys1'><rule-base><entry name='decryption'><rules><list><member>a b</member><member>c</member></list></rules></entry></rule-base></entry></vsys-name></vsys></rule-hit-count></show>",
			`show rule-hit-count vsys vsys-name vsys1 rule-base decryption rules list [ "a b" c ]`},
		{"<request><certificate><generate><certificate-name>x</certificate-name><name>x.example</name><algorithm><RSA><rsa-nbits>2048</rsa-nbits></RSA></algorithm><ca>yes</ca><hostname><member>x.example</member></hostname></generate></certificate></request>",
			"request certificate generate certificate-name x name x.example algorithm RSA rsa-nbits 2048 ca yes hostname [ x.example ]"},
		{"<request><password-hash><password>filter</password></password-hash></request>", "request password-hash password ********"},
	} {
		call, err := ParseXML(test.xml)
		if err != nil {
			t.Errorf("%s: %v", test.xml, err)
			continue
		}
		if got := call.String(); got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.xml, got, test.want)
		}
	}
}

func TestParseXMLRefuses(t *testing.T) {
	t.Parallel()
	const unknown, bad = mgmt.CodeInvalidCommand, mgmt.CodeMalformed
	for _, test := range []struct {
		xml  string
		code mgmt.Code
		says string
	}{
		{"", bad, "empty"},
		{"show system info", bad, "text outside"},
		{"<show><system><info>", bad, "not well-formed"},
		{"<show><system/></show><show/>", bad, "more than one command"},
		{"<show><sys><info/></sys></show>", unknown, "show -> sys is unexpected"},
		{"<show>system<info/></show>", bad, "text beside elements"},
		{"<show><system/>info</show>", bad, "text beside elements"},
		{"<show>system</show>", unknown, "a value is unexpected"},
		{"<show><jobs><id><all/></id></jobs></show>", unknown, "expected a value"},
		{"<!DOCTYPE show [<!ENTITY a 'info'>]><show><system>&a;</system></show>", bad, "refused"},
		{"<show><system>&a;</system></show>", bad, "not well-formed"},
		{"<?php?><show/>", bad, "refused"},
		{"<show><?xml version='1.0'?></show>", bad, "refused"},
		{"<?xml version='1.0'", bad, "not well-formed"},
		{"<show xmlns='x'><system><info/></system></show>", bad, "namespaces"},
		{"<show a='b'/>", bad, "an attribute on <show>"},
		{"<entry name='a'/>", bad, "does not begin with <entry>"},
		{"<show><entry/></show>", bad, "expected <entry name"},
		{"<show><member>a</member><b/></show>", bad, "beside <member>"},
		{"<show><b/><member>a</member></show>", bad, "<member> beside"},
		{"<show><member/></show>", bad, "an empty <member>"},
		{strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40), bad, "nested too deep"},
		{"<a>" + strings.Repeat("<b/>", 3000) + "</a>", bad, "more than 2000 words"},
		{"<a>" + strings.Repeat(" ", maxXML) + "</a>", bad, "larger than"},
	} {
		_, err := ParseXML(test.xml)
		shownXML := test.xml[:min(len(test.xml), 80)]
		if err == nil {
			t.Errorf("%s is taken", shownXML)
			continue
		}
		if mgmt.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got code %d and %q, want %d and %q in it", shownXML, mgmt.CodeOf(err), err, test.code, test.says)
		}
	}
}

// FuzzParseXML: whatever comes, an answer comes within bounds, and what is taken
// is a command of the table, which is read again from its words as the same.
func FuzzParseXML(f *testing.F) {
	for _, seed := range []string{
		"<show><system><info></info></system></show>",
		"<show><rule-hit-count><vsys><vsys-name><entry name='vsys1'><rule-base><entry name='decryption'><rules><list><member>a</member></list></rules></entry></rule-base></entry></vsys-name></vsys></rule-hit-count></show>",
		"<request><certificate><generate><certificate-name>x</certificate-name><name>y</name><algorithm><RSA/></algorithm></generate></certificate></request>",
		"<show><log><system><query>( a eq 'b' )</query></system></log></show>",
		"<!DOCTYPE a><a/>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := Flatten(text)
		if err != nil {
			if mgmt.CodeOf(err) != mgmt.CodeMalformed {
				t.Errorf("%v has code %d", err, mgmt.CodeOf(err))
			}
			return
		}
		call, err := ParseXML(text)
		if err != nil {
			return
		}
		again, err := Parse(tokens)
		if err != nil {
			t.Fatalf("read from XML and not from its words: %v", err)
		}
		if again.String() != call.String() {
			t.Errorf("from XML %s, from words %s", call, again)
		}
	})
}

// FuzzElement: what an element says comes back from any XML parser.
func FuzzElement(f *testing.F) {
	f.Add("a", "b", true)
	f.Add("]]>", "\"<&\r\n\t", true)
	f.Add("\x00\xff", "'", false)
	f.Fuzz(func(t *testing.T, text, attr string, cdata bool) {
		var b bytes.Buffer
		(&Element{Name: "line", Text: text, CDATA: cdata, Attrs: []Attr{{"name", attr}}}).Append(&b)
		var got struct {
			Text string `xml:",chardata"`
			Name string `xml:"name,attr"`
		}
		if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%q: %v", b.String(), err)
		}
		clean := func(s string) string {
			return strings.Map(func(r rune) rune {
				if !xmltext.Holds(r) {
					return '\uFFFD'
				}
				return r
			}, s)
		}
		if want := clean(attr); got.Name != want {
			t.Errorf("attribute %q became %q", want, got.Name)
		}
		want := clean(text)
		if cdata {
			want = strings.ReplaceAll(strings.ReplaceAll(want, "\r\n", "\n"), "\r", "\n") // XML 1.0 section 2.11
		}
		if got.Text != want {
			t.Errorf("text %q became %q", want, got.Text)
		}
		dec := xml.NewDecoder(&b)
		for {
			if _, err := dec.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	r := Result{Elements: []*Element{E("admins", Entry("a", T("role", "superuser")), Entry("b"))}}
	var got struct {
		Admins struct {
			Entry []map[string]string
		}
	}
	if err := json.Unmarshal(r.JSON(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Admins.Entry) != 2 || got.Admins.Entry[0]["@name"] != "a" || got.Admins.Entry[0]["role"] != "superuser" {
		t.Errorf("got %s", r.JSON())
	}
}
