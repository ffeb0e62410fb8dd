package api

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"moongate/internal/gw/logstore"
)

// op runs an operational command as an administrator and returns the answer.
func (w *world) op(name, words string) string {
	w.t.Helper()
	open, shut := "", ""
	for _, word := range strings.Fields(words) {
		open, shut = open+"<"+word+">", "</"+word+">"+shut
	}
	return w.as(name, "type", "op", "cmd", open+shut)
}

func TestSystemInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.op("reader", "show system info")
	if !strings.HasPrefix(got, `<response status="success"><result><system><hostname>`) {
		t.Fatalf("got %s", got)
	}
	names := children(t, got, "system")
	for _, name := range []string{"hostname", "ip-address", "sw-version", "moongate-version", "model", "serial", "app-version", "multi-vsys", "uptime"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing: %v", name, names)
		}
	}
	for _, has := range []string{"<sw-version>11.1.0</sw-version>", "<multi-vsys>off</multi-vsys>", "<moongate-version>1.2.3</moongate-version>", "<serial>007000000001</serial>"} {
		if !strings.Contains(got, has) {
			t.Errorf("%s is missing in %s", has, got)
		}
	}
}

func TestMasterKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	order := []string{"expire-at", "hours-to-expiry", "minutes-to-expiry", "seconds-to-expiry", "remind-at", "hours-to-reminder",
		"minutes-to-reminder", "seconds-to-reminder", "on-hsm", "auto-renew-mkey"}
	if got := children(t, w.op("admin", "show system masterkey-properties"), "result"); !slices.Equal(got, order) {
		t.Errorf("got %v\nwant %v", got, order)
	}
	const secret = "a key of my own, 0123456789"
	got := w.as("admin", "type", "op", "cmd", "<request><master-key><new-master-key>"+secret+
		"</new-master-key><lifetime>48</lifetime><reminder>24</reminder></master-key></request>")
	w.want("change", got, `<response status="success"><result>Master key changed successfully
Strength of the new master key: strong (at most 109 bits)</result></response>`)
	got = w.op("admin", "show system masterkey-properties")
	if !regexp.MustCompile(`<hours-to-expiry>4[78]</hours-to-expiry>`).MatchString(got) || !strings.Contains(got, "<on-hsm>no</on-hsm>") {
		t.Errorf("got %s", got)
	}
	if strings.Contains(w.log.String(), secret) {
		t.Error("the log holds the master key")
	}
}

// TestEveryCommand runs every command that only looks: each must answer with
// well-formed XML.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, words := range []string{
		"show clock", "show hsm state", "show hsm info", "show plugins packages", "show high-availability state", "show admins", "show admins all",
		"show jobs all", "show jobs pending", "show jobs processed", "show config running", "show config candidate", "show config diff",
		"show config list changes", "show config list change-summary", "show config versions", "check pending-changes", "check full-commit-required",
		"show commit pending-confirm", "show config-locks", "show commit-locks", "show log traffic", "show log decryption", "show log system", "show log config",
		"show session all", "show session info", "show counter global", "show system setting ssl-decrypt setting", "show system setting ssl-decrypt certificate",
		"show system setting ssl-decrypt certificate-cache", "show system setting ssl-decrypt exclude-cache", "show system setting ssl-decrypt session-cache",
		"show api-keys", "show certificate all",
	} {
		got := w.op("reader", words)
		if !strings.HasPrefix(got, `<response status="success"><result`) {
			t.Errorf("%s: %s", words, got)
		}
		children(t, got, "response")
	}
	got := w.as("admin", "type", "op", "cmd", "<show><rule-hit-count><vsys><vsys-name><entry name='vsys1'><rule-base><entry name='decryption'><rules><all/></rules></entry></rule-base></entry></vsys-name></vsys></rule-hit-count></show>")
	w.want("hits", got, `<response status="success"><result><rule-hit-count><vsys><entry name="vsys1"><rule-base><entry name="decryption"><rules/></entry></rule-base></entry></vsys></rule-hit-count></result></response>`)
	w.want("plugins", w.op("reader", "show plugins packages"), `<response status="success"><result><plugins/></result></response>`)
	w.want("no job", w.as("admin", "type", "op", "cmd", "<show><jobs><id>999</id></jobs></show>"),
		`<response status="error" code="7"><msg><line><![CDATA[job 999 not found]]></line></msg></response>`)
}

func TestLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.as("device", "type", "op", "vsys", "shared", "cmd", "<request><config-lock><add><comment>hands off</comment></add></config-lock></request>"); !strings.HasPrefix(got, `<response status="success"><result>Successfully acquired lock`) {
		t.Fatalf("lock: %s", got)
	}
	got := w.as("admin", "type", "op", "cmd", "<show><config-locks><vsys>all</vsys></config-locks></show>")
	if !strings.HasPrefix(got, `<response status="success"><result><config-locks><entry name="device"><name>shared</name><type>config</type>`) ||
		!strings.Contains(got, "<comment><![CDATA[hands off]]></comment>") {
		t.Errorf("locks: %s", got)
	}
	if got := w.as("second", "type", "config", "action", "set", "xpath", hostnamePath[:strings.LastIndex(hostnamePath, "/")], "element", "<hostname>x</hostname>"); !strings.HasPrefix(got, `<response status="error" code="14"><msg><line><![CDATA[Configuration is locked by device (hands off)`) {
		t.Errorf("set by another: %s", got)
	}
	// Clients know refusals by their first words.
	refused := func(text string) string {
		return `<response status="error" code="14"><msg><line><![CDATA[` + text + `]]></line></msg></response>`
	}
	w.want("locked by another", w.op("admin", "request config-lock add"), refused("Config for scope shared is currently locked by device"))
	w.want("locked already", w.op("device", "request config-lock add"), refused("You already own a config lock for scope shared"))
	w.want("unlock", w.op("device", "request config-lock remove"), `<response status="success"><result>Config lock released</result></response>`)
	w.want("not locked", w.op("device", "request config-lock remove"), refused("Config is not currently locked for scope shared"))
	w.want("no commit lock", w.op("device", "request commit-lock remove"), refused("Commit lock is not currently held"))
	w.op("device", "request commit-lock add")
	w.want("commit lock", w.op("device", "request commit-lock add"), refused("Commit lock is already held by device"))
	w.want("commit lock of another", w.op("admin", "request commit-lock add"), refused("Commit lock is already held by device"))
	w.op("device", "request commit-lock remove")
	w.set("free")
}

func TestVersionsAndRevert(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("first")
	w.commit()
	w.set("second")
	if got := w.op("reader", "show config diff"); !strings.Contains(got, "second") {
		t.Errorf("diff: %s", got)
	}
	w.want("revert as pango does", w.as("admin", "type", "op", "cmd", "<load><config><from>running-config.xml</from></config></load>"),
		`<response status="success"><result><msg><line>Config loaded from running-config.xml</line></msg></result></response>`)
	w.want("reverted", w.as("admin", "type", "config", "action", "get", "xpath", hostnamePath),
		`<response status="success" code="19"><result total-count="1" count="1"><hostname>first</hostname></result></response>`)
	versions := w.op("reader", "show config versions")
	if got := children(t, versions, "versions"); len(got) != 2 {
		t.Errorf("versions: %s", versions)
	}
	w.want("load", w.as("admin", "type", "op", "cmd", "<load><config><version>1</version></config></load>"),
		`<response status="success"><result><msg><line>Config loaded from version 1</line></msg></result></response>`)
	w.want("loaded", w.as("admin", "type", "config", "action", "get", "xpath", hostnamePath), `<response status="success" code="7"><result/></response>`)
	got := w.as("admin", "type", "op", "cmd", "<validate><full></full></validate>")
	found := regexp.MustCompile(`^<response status="success" code="19"><result><msg><line>Validate job enqueued with jobid (\d+)</line></msg><job>(\d+)</job></result></response>$`).FindStringSubmatch(got)
	if found == nil {
		t.Fatalf("validate: %s", got)
	}
	if job := w.finished(found[1]); !strings.Contains(job, "<result>OK</result>") {
		t.Errorf("validate: %s", job)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.set(name)
	}
	w.Logs.System(logstore.Event{Severity: logstore.High, Type: "general", EventID: "test", Description: "<one> & two"})
	start := w.as("reader", "type", "log", "log-type", "config", "query", "( admin eq 'admin' ) and ( cmd eq 'set' )", "nlogs", "2")
	found := regexp.MustCompile(`^<response status="success" code="19"><result><msg><line>query job enqueued with jobid (\d+)</line></msg><job>(\d+)</job></result></response>$`).FindStringSubmatch(start)
	if found == nil {
		t.Fatalf("log: %s", start)
	}
	w.finished(found[1])
	got := w.as("reader", "type", "log", "action", "get", "job-id", found[1])
	if order := children(t, got, "result"); !slices.Equal(order, []string{"job", "log", "meta"}) {
		t.Errorf("children: %v", order)
	}
	if order := children(t, got, "job"); !slices.Equal(order, []string{"tenq", "tdeq", "tlast", "status", "id", "cached-logs"}) {
		t.Errorf("children of the job: %v", order)
	}
	if !strings.Contains(got, `<logs count="2" progress="100"><entry logid="`) || !strings.Contains(got, "<status>FIN</status>") {
		t.Errorf("got %s", got)
	}
	if got := w.as("second", "type", "log", "action", "get", "job-id", found[1]); !strings.HasPrefix(got, `<response status="error" code="13">`) {
		t.Errorf("somebody else's query: %s", got)
	}
	for _, bad := range [][]string{
		{"type", "log"}, {"type", "log", "log-type", "threat"}, {"type", "log", "log-type", "config", "nlogs", "9999"}, {"type", "log", "log-type", "config", "query", "( what"},
		{"type", "log", "log-type", "config", "dir", "up"}, {"type", "log", "action", "get"}, {"type", "log", "action", "stop"},
	} {
		if got := w.as("reader", bad...); !strings.HasPrefix(got, `<response status="error" code="400"><result><msg>`) {
			t.Errorf("%v: %s", bad, got)
		}
	}
}

// TestFiles has what import and export say before there is a certificate, and
// the configuration both ways.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pem := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for _, test := range []struct {
		file   []byte
		params []string
		says   string
	}{
		{pem, []string{"type", "import"}, `code="400"><result><msg>Parameter "category" is required`},
		{pem, []string{"type", "import", "category", "software"}, `code="400"`},
		{pem, []string{"type", "import", "category", "certificate"}, `code="400"><result><msg>Parameter "certificate-name" is required`},
		{pem, []string{"type", "import", "category", "certificate", "certificate-name", "x"}, `code="400"><result><msg>Parameter "format" is required while importing certificate`},
		{pem, []string{"type", "import", "category", "certificate", "certificate_name", "x", "format", "doc"}, `code="400"><result><msg>Parameter "format" is`},
		{nil, []string{"type", "import", "category", "certificate", "certificate-name", "x", "format", "pem"}, `code="400"><result><msg>the part "file" is required`},
		{pem, []string{"type", "import", "category", "certificate", "certificate-name", "x", "format", "pem"}, `code="1`},
		{nil, []string{"type", "export", "category", "certificate", "certificate-name", "x", "format", "pem"}, `code="`},
		{nil, []string{"type", "export", "category", "tech-support"}, `code="400"`},
		{nil, []string{"type", "export"}, `code="400"`},
	} {
		r := w.upload(test.file, test.params...)
		r.Header.Set("X-PAN-KEY", w.key("admin"))
		if _, got := w.do(r); !strings.HasPrefix(got, `<response status="error" `) || !strings.Contains(got, test.says) {
			t.Errorf("%v: %s, want %s in it", test.params, got, test.says)
		}
	}
	w.set("first")
	w.commit()
	r := w.request("type", "export", "category", "configuration", "key", w.key("admin"))
	resp, text := w.do(r)
	if resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("Content-Disposition") != `attachment; filename=running-config.xml` ||
		!strings.Contains(text, "<hostname>first</hostname>") {
		t.Errorf("export: %v %s", resp.Header, text)
	}
	r = w.upload([]byte(strings.Replace(text, "first", "second", 1)), "type", "import", "category", "configuration", "key", w.key("admin"))
	if _, got := w.do(r); !strings.HasPrefix(got, `<response status="success">`) {
		t.Errorf("import: %s", got)
	}
	w.want("imported", w.as("admin", "type", "config", "action", "get", "xpath", hostnamePath),
		`<response status="success" code="19"><result total-count="1" count="1"><hostname>second</hostname></result></response>`)
}
