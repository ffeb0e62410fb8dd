package logstore

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/flow"
)

// samples are flows that differ in what filters look at.
func samples() []*flow.Record {
	var list []*flow.Record
	for i := range 40 {
		r := record(fmt.Sprint("id", i))
		r.Client = []string{"10.1.2.3:1", "10.255.255.255:2", "11.0.0.0:3", "[2001:db8::1]:4", "[::ffff:10.0.0.1]:5", "[a00::1]:6", ""}[i%7]
		r.Server = []string{"", "192.0.2.7:443", "[2001:db8:ffff::]:8443"}[i%3]
		r.Rule = []string{"web", "Web", "it's", `a "quoted" \ rule`, "", "x') OR 1=1 --", "дом"}[i%7]
		r.SNI = []string{"www.Example.com", "bank.example", ""}[i%3]
		r.Action = []string{"decrypt", "no-decrypt", "block", "plain"}[i%4]
		r.BytesUp, r.BytesDown = int64(i*100), int64(i%5)
		if i%6 == 0 {
			r.ClientLeg, r.ServerLeg = nil, nil
		}
		list = append(list, r)
	}
	return list
}

func fill(t testing.TB, s *Store, list []*flow.Record) {
	t.Helper()
	for _, r := range list {
		s.Write(r)
	}
	until(t, s, Query{Log: Traffic}, len(list))
}

// TestFilters: each filter chooses what it should, in both logs of flows.
func TestFilters(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	list := samples()
	fill(t, s, list)
	for filter, want := range map[string]func(*flow.Record) bool{
		"":     func(*flow.Record) bool { return true },
		" \t ": func(*flow.Record) bool { return true },
		"( addr.src in 10.0.0.0/8 )": func(r *flow.Record) bool {
			return strings.HasPrefix(r.Client, "10.") || strings.Contains(r.Client, "ffff:10.")
		},
		"(addr.src notin 10.0.0.0/8)": func(r *flow.Record) bool {
			return !strings.HasPrefix(r.Client, "10.") && !strings.Contains(r.Client, "ffff:10.")
		},
		"addr.src eq 10.0.0.1":     func(r *flow.Record) bool { return strings.Contains(r.Client, "ffff:10.") },
		"addr in 2001:db8::/32":    func(r *flow.Record) bool { return strings.Contains(r.Client+r.Server, "2001:db8") },
		"addr notin 2001:db8::/32": func(r *flow.Record) bool { return !strings.Contains(r.Client+r.Server, "2001:db8") },
		"src in 0.0.0.0/0": func(r *flow.Record) bool {
			return r.Client != "" && !strings.HasPrefix(r.Client, "[2") && !strings.HasPrefix(r.Client, "[a")
		},
		"port eq 443": func(r *flow.Record) bool { return strings.HasSuffix(r.Server, ":443") },
		"port.src geq 5": func(r *flow.Record) bool {
			return strings.HasSuffix(r.Client, ":5") || strings.HasSuffix(r.Client, ":6")
		},
		"rule eq web":                            func(r *flow.Record) bool { return r.Rule == "web" },
		"rule contains WEB":                      func(r *flow.Record) bool { return strings.EqualFold(r.Rule, "web") },
		`rule eq "it's"`:                         func(r *flow.Record) bool { return r.Rule == "it's" },
		`rule eq 'it\'s'`:                        func(r *flow.Record) bool { return r.Rule == "it's" },
		`rule eq 'a "quoted" \\ rule'`:           func(r *flow.Record) bool { return r.Rule == `a "quoted" \ rule` },
		`rule eq "x') OR 1=1 --"`:                func(r *flow.Record) bool { return r.Rule == "x') OR 1=1 --" },
		`rule eq "'; DROP TABLE entry; --"`:      func(*flow.Record) bool { return false },
		`rule contains "%"`:                      func(*flow.Record) bool { return false },
		`rule neq ''`:                            func(r *flow.Record) bool { return r.Rule != "" },
		"rule contains дом":                      func(r *flow.Record) bool { return r.Rule == "дом" },
		"sni eq WWW.example.com":                 func(r *flow.Record) bool { return r.SNI == "www.Example.com" },
		"action neq decrypt and bytes leq 500":   func(r *flow.Record) bool { return r.Action != "decrypt" && r.BytesUp+r.BytesDown <= 500 },
		"not action eq decrypt or bytes leq 500": func(r *flow.Record) bool { return r.Action != "decrypt" || r.BytesUp+r.BytesDown <= 500 },
		"!(action eq decrypt or bytes leq 500)":  func(r *flow.Record) bool { return r.Action != "decrypt" && r.BytesUp+r.BytesDown > 500 },
		"action eq block or action eq plain and bytes geq 2000": func(r *flow.Record) bool {
			return r.Action == "block" || r.Action == "plain" && r.BytesUp+r.BytesDown >= 2000
		},
		"tls_version eq tls1.3 and SERVER_TLS_VERSION EQ TLS1.2":                      func(r *flow.Record) bool { return r.ClientLeg != nil },
		"receive_time in last-hour":                                                   func(*flow.Record) bool { return true },
		"receive_time leq '2026/01/01'":                                               func(*flow.Record) bool { return false },
		"receive_time geq 2020-01-02T03:04:05+01:00":                                  func(*flow.Record) bool { return true },
		"start eq 2026-11-23T15:04:05.000006Z":                                        func(*flow.Record) bool { return true },
		"start geq 2026-11-23T15:04:05.000007Z":                                       func(*flow.Record) bool { return false },
		"seqno leq 0":                                                                 func(*flow.Record) bool { return false },
		strings.Repeat("(", maxDepth) + "rule eq web" + strings.Repeat(")", maxDepth): func(r *flow.Record) bool { return r.Rule == "web" },
	} {
		for _, log := range []Log{Traffic, Decryption} {
			var expect, got []string
			for _, r := range list {
				if want(r) && (log == Traffic || r.Action != "plain") {
					expect = append(expect, r.ID)
				}
			}
			for _, e := range query(t, s, Query{Log: log, Filter: filter, Oldest: true, Limit: MaxLimit}) {
				got = append(got, e.Get("sessionid"))
			}
			if !slices.Equal(expect, got) {
				t.Errorf("%s, %q: got %v, want %v", log, filter, got, expect)
			}
		}
	}
}

// TestFilterErrors: a mistake is told with its place and what was expected.
func TestFilterErrors(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]string{
		"nosuch eq 1":                    `at 1: the traffic log has no field "nosuch"; it has seqno, receive_time`,
		"rule":                           "the end is no operator of rule; expected one of [eq neq contains]",
		"rule geq x":                     `"geq" is no operator of rule`,
		"rule eq":                        "at 8: expected a value instead of the end",
		"rule eq )":                      `expected a value instead of ")"`,
		"rule eq 'x":                     "at 9: the quote ' is not closed",
		"( rule eq x":                    `expected ")" instead of the end`,
		"rule eq x)":                     `")" is not expected`,
		"rule eq x sni eq y":             `"sni" is not expected; comparisons are joined by and, or`,
		"rule eq x and":                  "expected a field instead of the end",
		"'rule' eq x":                    `expected a field instead of "rule"`,
		"addr in 10.0.0.0/33":            `"10.0.0.0/33": expected an address or a prefix`,
		"addr in ten":                    "expected an address",
		"bytes geq 1k":                   `"1k": expected a whole number`,
		"receive_time geq tomorrow":      "expected a time such as",
		"receive_time in yesterday":      "expected one of last-60-seconds",
		"()":                             `expected a field instead of ")"`,
		strings.Repeat("(", 100):         "nested more than 32 deep",
		strings.Repeat("not ", 100):      "nested more than 32 deep",
		strings.Repeat("!", 100):         "nested more than 32 deep",
		strings.Repeat("x", MaxFilter+1): "4097 bytes long; expected 4096 at most",
		"rule eq x" + strings.Repeat(" and rule eq x", 64): "more than 64 comparisons",
	} {
		err := CheckFilter(Traffic, filter)
		if err == nil || !strings.Contains(err.Error(), want) || !IsFilterError(err) {
			t.Errorf("%.40q: %v, want an error with %q", filter, err, want)
		}
	}
	for filter, log := range map[string]Log{"severity geq high": System, "admin eq a and path contains '/'": Config, "before neq ''": Config, "description contains x": System} {
		if err := CheckFilter(log, filter); err != nil {
			t.Errorf("%s: %v", filter, err)
		}
	}
	if err := CheckFilter(System, "severity eq bad"); err == nil || !strings.Contains(err.Error(), "informational, low, medium, high, critical") {
		t.Errorf("%v", err)
	}
}

// randomFilter makes a valid filter.
func randomFilter(random *rand.Rand, depth int) string {
	if depth > 0 && random.IntN(2) == 0 {
		a, b := randomFilter(random, depth-1), randomFilter(random, depth-1)
		return []string{"(" + a + ") and (" + b + ")", "(" + a + " or " + b + ")", "not (" + a + ")", "!(" + a + ") or " + b}[random.IntN(4)]
	}
	names := FieldNames(Traffic)
	name := names[random.IntN(len(names))]
	ops := Operators(Traffic, name)
	op := ops[random.IntN(len(ops))]
	values := []string{"web", "WEB", "''", `"it's"`, "x", "example", "decrypt", "yes", "0"}
	switch _, k, _ := lookup(Traffic, name); {
	case k == address:
		values = []string{"10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::/32", "a00::/8", "::ffff:10.0.0.1", "2001:db8:8000::/33"}
	case k == number:
		values = []string{"0", "1", "5", "443", "500", "-1", "9223372036854775807", "-9223372036854775808"}
	case op == "in":
		values = []string{"last-hour", "last-60-seconds"}
	case k == instant:
		values = []string{"2026/11/23", "1970-01-01T00:00:00Z", "2026-11-23T15:04:05.000006Z", "'9999/12/31 23:59:59'"}
	}
	return name + " " + op + " " + values[random.IntN(len(values))]
}

// TestBothEvaluations: the database and what forwards choose the same.
func TestBothEvaluations(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	list := samples()[:21]
	fill(t, s, list)
	random := rand.New(rand.NewPCG(1, 2))
	// What the database has, as a writer would have offered it.
	rows := map[int64][]any{}
	all := query(t, s, Query{Log: Traffic, Limit: MaxLimit})
	for i, e := range all {
		values := flowValues(list[len(list)-1-i], e.Time)
		rows[e.Seq] = values
	}
	chosen := 0
	for range 200 {
		text := randomFilter(random, 3)
		filter, err := ParseFilter(Traffic, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got := map[int64]bool{}
		for _, e := range query(t, s, Query{Log: Traffic, Filter: text, Limit: MaxLimit}) {
			got[e.Seq] = true
		}
		chosen += len(got)
		for seq, values := range rows {
			if want := filter.root.match(seq, values, flowFields, time.Now()); want != got[seq] {
				t.Errorf("%s: entry %d %v: the database says %v", text, seq, values, got[seq])
			}
		}
	}
	if chosen < 200 {
		t.Errorf("all filters together chose %d entries", chosen)
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"", "( addr.src in 10.0.0.0/8 ) and ( rule eq 'x' )", "not sni contains \"a\\\"b\" or !(bytes geq 5)", "receive_time in last-hour",
		"start eq 2026-11-23T15:04:05Z", "rule eq \"'; DROP TABLE entry; --\"", "addr notin ::/0", "rule eq '\x00\xff'", "port leq 9",
	} {
		f.Add(seed)
	}
	db, err := sql.Open("sqlite", dataSource(filepath.Join(f.TempDir(), "fuzz.db"), "rwc"))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	d := &database{fields: flowFields}
	tx, err := db.Begin()
	if err != nil {
		f.Fatal(err)
	}
	if err := d.create(tx, 1); err != nil {
		f.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	list := samples()[:7]
	d.db = db
	var rows []row
	for i, r := range list {
		rows = append(rows, row{int64(i + 1), flowValues(r, now), nil})
	}
	for _, prepare := range []struct {
		into **sql.Stmt
		n    int
	}{{&d.insert, 1}, {&d.many, rowsAtOnce}} {
		if *prepare.into, err = db.Prepare(d.insertSQL(prepare.n)); err != nil {
			f.Fatal(err)
		}
	}
	if err := d.write(rows); err != nil {
		f.Fatal(err)
	}
	// Whatever is written, both evaluations take it and agree, and the
	// statement holds nothing of it.
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := ParseFilter(Traffic, s)
		if err != nil {
			if !IsFilterError(err) {
				t.Errorf("%v is no *FilterError", err)
			}
			return
		}
		q := Query{Log: Traffic, Limit: 100}
		statement, args := q.sql(filter, now)
		if rest := strings.Trim(statement, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-\"(),.=<>?0 "); rest != "" {
			t.Errorf("%q in the statement %s", rest, statement)
		}
		got, err := entries(t.Context(), db, Traffic, statement, args)
		if err != nil {
			t.Fatalf("%q: %v in %s", s, err, statement)
		}
		n := 0
		for _, r := range rows {
			if filter.root == nil || filter.root.match(r.seq, r.values, flowFields, now) {
				n++
			}
		}
		if n != len(got) {
			t.Errorf("%q: the database chooses %d, match %d", s, len(got), n)
		}
	})
}
