package api

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/mgmt/mgmttest"
	"moongate/internal/gw/ops"
)

// least is the least role that may run each operational command, and the
// arguments that it is run with here. A command that is not listed fails the
// test.
var least = map[string]struct {
	role admin.Role
	args string
}{
	"check full-commit-required":                        {admin.SuperReader, ""},
	"check pending-changes":                             {admin.SuperReader, ""},
	"request admin unlock":                              {admin.Superuser, "second"},
	"test hsm key":                                      {admin.DeviceAdmin, "nobody"},
	"request api-key generate":                          {admin.SuperReader, ""},
	"request api-key revoke":                            {admin.Superuser, "admin second"},
	"request password-hash":                             {admin.SuperReader, "password a-long-password"},
	"set password":                                      {admin.Superuser, "password a-long-password admin second"},
	"show admins":                                       {admin.SuperReader, ""},
	"show api-keys":                                     {admin.Superuser, "admin second"},
	"show certificate all":                              {admin.SuperReader, ""},
	"show certificate name":                             {admin.SuperReader, "nobody"},
	"show clock":                                        {admin.SuperReader, ""},
	"show commit pending-confirm":                       {admin.SuperReader, ""},
	"show commit-locks":                                 {admin.SuperReader, ""},
	"show config candidate":                             {admin.SuperReader, ""},
	"show config diff":                                  {admin.SuperReader, ""},
	"show config list audit-comments":                   {admin.SuperReader, ""},
	"show config list change-summary":                   {admin.SuperReader, ""},
	"show config list changes":                          {admin.SuperReader, ""},
	"show config running":                               {admin.SuperReader, ""},
	"show config version":                               {admin.SuperReader, "1"},
	"show config versions":                              {admin.SuperReader, ""},
	"show config-locks":                                 {admin.SuperReader, ""},
	"show counter global":                               {admin.SuperReader, ""},
	"show high-availability all":                        {admin.SuperReader, ""},
	"show high-availability state":                      {admin.SuperReader, ""},
	"show hsm info":                                     {admin.SuperReader, ""},
	"show hsm mkey-wrapping-keys":                       {admin.SuperReader, ""},
	"show hsm state":                                    {admin.SuperReader, ""},
	"show jobs all":                                     {admin.SuperReader, ""},
	"show jobs id":                                      {admin.SuperReader, "999"},
	"show jobs pending":                                 {admin.SuperReader, ""},
	"show jobs processed":                               {admin.SuperReader, ""},
	"show log config":                                   {admin.SuperReader, ""},
	"show log decryption":                               {admin.SuperReader, ""},
	"show log system":                                   {admin.SuperReader, ""},
	"show log traffic":                                  {admin.SuperReader, ""},
	"show plugins packages":                             {admin.SuperReader, ""},
	"show rule-hit-count vsys vsys-name":                {admin.SuperReader, "vsys1 rule-base decryption rules all"},
	"show session all":                                  {admin.SuperReader, ""},
	"show session id":                                   {admin.SuperReader, "999"},
	"show session info":                                 {admin.SuperReader, ""},
	"show system info":                                  {admin.SuperReader, ""},
	"show system masterkey-properties":                  {admin.SuperReader, ""},
	"show system setting ssl-decrypt certificate":       {admin.SuperReader, ""},
	"show system setting ssl-decrypt certificate-cache": {admin.SuperReader, ""},
	"show system setting ssl-decrypt exclude-cache":     {admin.SuperReader, ""},
	"show system setting ssl-decrypt session-cache":     {admin.SuperReader, ""},
	"show system setting ssl-decrypt setting":           {admin.SuperReader, ""},
	"test decryption-policy-match":                      {admin.SuperReader, "source 192.0.2.1 destination 192.0.2.2"},

	"clear rule-hit-count vsys vsys-name":   {admin.DeviceAdmin, "vsys1 rule-base decryption rules all"},
	"clear session all":                     {admin.DeviceAdmin, ""},
	"clear session id":                      {admin.DeviceAdmin, "999"},
	"load config from":                      {admin.DeviceAdmin, "running-config.xml"},
	"load config version":                   {admin.DeviceAdmin, "1"},
	"request certificate csr":               {admin.SuperReader, "certificate-name nobody"},
	"show hsm servers":                      {admin.SuperReader, ""},
	"show hsm slots":                        {admin.SuperReader, ""},
	"show hsm ha-status":                    {admin.SuperReader, ""},
	"show hsm client-address":               {admin.SuperReader, ""},
	"show hsm client-certificate":           {admin.SuperReader, ""},
	"request hsm host-key":                  {admin.DeviceAdmin, "server s"},
	"request hsm authenticate":              {admin.DeviceAdmin, "server s password x"},
	"request hsm server-certificate import": {admin.DeviceAdmin, "server s file none.pem"},
	"request hsm server-certificate forget": {admin.DeviceAdmin, "server s fingerprint 00"},
	"request hsm client-certificate renew":  {admin.DeviceAdmin, ""},
	"request hsm login":                     {admin.DeviceAdmin, "password a-long-password"},
	"request hsm logout":                    {admin.DeviceAdmin, ""},
	"request hsm reset":                     {admin.DeviceAdmin, ""},
	"request hsm ha create-ha-group":        {admin.DeviceAdmin, "password a-long-password"},
	"request hsm ha synchronize":            {admin.DeviceAdmin, "password a-long-password"},
	"request hsm ha replace-server":         {admin.DeviceAdmin, "password a-long-password"},
	"delete file":                           {admin.DeviceAdmin, "none.pem"},
	"show files":                            {admin.DeviceAdmin, ""},
	"request certificate import":            {admin.DeviceAdmin, "certificate-name x file none.pem"},
	"request certificate generate":          {admin.DeviceAdmin, "certificate-name x name x algorithm ECDSA"},
	"request certificate renew":             {admin.DeviceAdmin, "certificate-name nobody"},
	"request certificate revoke":            {admin.DeviceAdmin, "certificate-name nobody"},
	"request commit confirm":                {admin.DeviceAdmin, ""},
	"request commit-lock add":               {admin.DeviceAdmin, ""},
	"request commit-lock remove":            {admin.DeviceAdmin, ""},
	"request config-lock add":               {admin.DeviceAdmin, ""},
	"request config-lock remove":            {admin.DeviceAdmin, ""},
	"revert config":                         {admin.DeviceAdmin, ""},
	"validate full":                         {admin.DeviceAdmin, ""},
	// Refused by its length once the role is right: a real change takes seconds.
	"request master-key":                     {admin.Superuser, "new-master-key short lifetime 24"},
	"request master-key recover":             {admin.Superuser, "master-key short"},
	"request hsm mkey-wrapping-key-rotation": {admin.Superuser, ""},
}

// ranks orders roles: who may what the one before may.
var ranks = []admin.Role{admin.SuperReader, admin.DeviceAdmin, admin.Superuser}

func mayBe(role, least admin.Role) bool {
	return slices.Index(ranks, role) >= slices.Index(ranks, least)
}

// TestMatrix runs every operational command as every role, as the command line
// does and through the API. A cell is refused for the role, or not.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people := []string{"reader", "device", "admin"}
	for _, cmd := range ops.Commands() {
		row, listed := least[cmd.Words]
		if !listed {
			t.Errorf("%s has no row: say who may", cmd.Words)
			continue
		}
		var tokens []ops.Token
		for _, word := range strings.Fields(cmd.Words + " " + row.args) {
			tokens = append(tokens, ops.Token{Text: word})
		}
		for _, name := range people {
			role := mgmttest.People[name]
			call, err := ops.Parse(tokens)
			if err != nil {
				t.Fatalf("%s: %v", cmd.Words, err)
			}
			caller := mgmt.Caller{Identity: admin.Identity{Name: name, Role: role}, Via: mgmt.CLI}
			_, err = call.Run(t.Context(), w.Manager, caller, nil)
			if denied := mgmt.CodeOf(err) == mgmt.CodeDenied; denied == mayBe(role, row.role) {
				t.Errorf("%s as %s on the command line: %v", cmd.Words, role, err)
			}
			body := w.as(name, "type", "op", "cmd", xmlOf(cmd, row.args))
			if strings.Contains(body, `code="17"`) && cmd.Words != "request master-key" {
				t.Errorf("%s: %s", cmd.Words, body)
			}
			if denied := strings.HasPrefix(body, `<response status="error" code="15">`); denied == mayBe(role, row.role) {
				t.Errorf("%s as %s through the API: %s", cmd.Words, role, body)
			}
		}
	}
	for words := range least {
		if !slices.ContainsFunc(ops.Commands(), func(c *ops.Command) bool { return c.Words == words }) {
			t.Errorf("%s is no command", words)
		}
	}
}

// xmlOf is a command as XML. Its arguments are as in the table above.
func xmlOf(cmd *ops.Command, args string) string {
	inner := &bytes.Buffer{}
	words := strings.Fields(args)
	if len(cmd.Args) > 0 && cmd.Args[0].Bare && len(words) > 0 {
		if strings.Contains(cmd.Words, "vsys-name") {
			inner.WriteString("<entry name='vsys1'><rule-base><entry name='decryption'><rules><all/></rules></entry></rule-base></entry>")
		} else {
			inner.WriteString(words[0])
		}
		words = nil
	}
	for pair := range slices.Chunk(words, 2) {
		inner.WriteString("<" + pair[0] + ">" + pair[1] + "</" + pair[0] + ">")
	}
	open, shut := "", ""
	for _, word := range strings.Fields(cmd.Words) {
		open, shut = open+"<"+word+">", "</"+word+">"+shut
	}
	return open + inner.String() + shut
}

// TestRequestMatrix does the other types of requests as every role.
func TestRequestMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	system := hostnamePath[:strings.LastIndex(hostnamePath, "/")]
	config := func(action string, more ...string) []string {
		return append([]string{"type", "config", "action", action}, more...)
	}
	for _, row := range []struct {
		least admin.Role
		send  []string
		file  string
	}{
		{admin.SuperReader, []string{"type", "version"}, ""},
		{admin.SuperReader, config("get", "xpath", "/config"), ""},
		{admin.SuperReader, config("show", "xpath", "/config"), ""},
		{admin.SuperReader, []string{"type", "log", "log-type", "system"}, ""},
		{admin.SuperReader, []string{"type", "export", "category", "configuration"}, ""},
		{admin.SuperReader, []string{"type", "export", "category", "certificate", "certificate-name", "x", "format", "pem"}, ""},
		{admin.Superuser, []string{"type", "export", "category", "certificate", "certificate-name", "x", "format", "pem", "include-key", "yes", "passphrase", "a-passphrase"}, ""},
		{admin.DeviceAdmin, config("set", "xpath", system, "element", "<hostname>x</hostname>"), ""},
		{admin.DeviceAdmin, config("edit", "xpath", hostnamePath, "element", "<hostname>y</hostname>"), ""},
		{admin.DeviceAdmin, config("delete", "xpath", hostnamePath), ""},
		{admin.DeviceAdmin, config("rename", "xpath", rulePath, "newname", "x"), ""},
		{admin.DeviceAdmin, config("clone", "xpath", rulePath, "newname", "x"), ""},
		{admin.DeviceAdmin, config("move", "xpath", rulePath, "where", "top"), ""},
		{admin.DeviceAdmin, config("multi-config", "element", "<delete xpath=\""+hostnamePath+"\"/>"), ""},
		{admin.Superuser, config("set", "xpath", "/config/mgt-config/users", "element", "<entry name='new'><permissions><role-based><superuser>yes</superuser></role-based></permissions></entry>"), ""},
		{admin.Superuser, config("delete", "xpath", "/config/mgt-config/users/entry[@name='second']"), ""},
		{admin.DeviceAdmin, []string{"type", "commit", "cmd", "<commit><force/></commit>"}, ""},
		{admin.DeviceAdmin, []string{"type", "import", "category", "certificate", "certificate-name", "x", "format", "pem"}, "nothing"},
		{admin.DeviceAdmin, []string{"type", "import", "category", "configuration"}, "nothing"},
	} {
		for _, name := range []string{"reader", "device", "admin"} {
			r := w.request(row.send...)
			if row.file != "" {
				r = w.upload([]byte(row.file), row.send...)
			}
			r.Header.Set("X-PAN-KEY", w.key(name))
			_, body := w.do(r)
			role := mgmttest.People[name]
			if denied := strings.HasPrefix(body, `<response status="error" code="15">`); denied == mayBe(role, row.least) {
				t.Errorf("%v as %s: %.300s", row.send, role, body)
			}
		}
	}
}
