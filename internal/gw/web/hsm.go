package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/mgmt"
)

// Device > Setup > HSM.

const hsmPage = "/device/setup/hsm"

func hsmRoutes() []route {
	return []route{
		{"GET " + hsmPage, hsmView(nil)},
		{"GET " + hsmPage + "/status", hsmStatusPart},
		{"GET " + hsmPage + "/server/{name}", hsmServerPage},
		{"GET " + hsmPage + "/provider", hsmView(providerDialog)},
		{"POST " + hsmPage + "/provider", saveProvider},
		{"GET " + hsmPage + "/authenticate", hsmView(authenticateDialog)},
		{"POST " + hsmPage + "/authenticate", authenticate},
		{"GET " + hsmPage + "/client-certificate", exportClientCertificate},
		{"GET " + hsmPage + "/partition", hsmView(partitionDialog)},
		{"POST " + hsmPage + "/partition", setupPartition},
		{"GET " + hsmPage + "/group/{act}", hsmView(groupDialog)},
		{"POST " + hsmPage + "/group/{act}", actOnGroup},
		{"POST " + hsmPage + "/reset", resetHSM},
		{"POST " + hsmPage + "/renew", renewClientCertificate},
	}
}

// hsmData is what the page shows.
type hsmData struct {
	Settings   tree // hsm-settings of the candidate
	Status     hsmlink.Status
	MayEdit    bool
	MayAct     bool
	MayRotate  bool
	Token      string
	Refreshed  string
	HasServers bool
}

func (v *visit) hsmData() (hsmData, error) {
	settings, err := v.candidate(hsmPath)
	if err != nil {
		return hsmData{}, err
	}
	status, err := v.m().HSMStatus(v.ctx(), v.who())
	if err != nil {
		return hsmData{}, err
	}
	return hsmData{
		Settings: settings, Status: status, MayEdit: v.may(admin.OpEditConfig), MayAct: v.may(admin.OpHSM), MayRotate: v.may(admin.OpMasterKey),
		Token: v.s.token, Refreshed: v.h.now().UTC().Format("15:04:05 UTC"), HasServers: len(status.Servers) > 0,
	}, nil
}

// hsmView is the page, with a dialog over it where there is one.
func hsmView(over func(*visit, hsmData, *Form) (templ.Component, error)) func(*visit) error {
	return func(v *visit) error { return v.showHSM(0, over, nil) }
}

func (v *visit) showHSM(status int, over func(*visit, hsmData, *Form) (templ.Component, error), f *Form) error {
	d, err := v.hsmData()
	if err != nil {
		return err
	}
	var dialog templ.Component
	if over != nil {
		if dialog, err = over(v, d, f); err != nil {
			return err
		}
	}
	return v.page(Page{Title: "Hardware Security Module", Path: hsmPage, Status: status}, hsmContent(d, dialog))
}

func hsmStatusPart(v *visit) error {
	d, err := v.hsmData()
	if err != nil {
		return err
	}
	return v.part(0, hsmStatusView(d))
}

func hsmServerPage(v *visit) error {
	d, err := v.hsmData()
	if err != nil {
		return err
	}
	for i := range d.Status.Servers {
		if s := &d.Status.Servers[i]; s.Name == v.r.PathValue("name") {
			return v.page(Page{Title: "HSM server " + s.Name, Path: hsmPage}, hsmServerContent(d, s))
		}
	}
	v.w.WriteHeader(http.StatusNotFound)
	return v.page(Page{Title: "No such server", Path: hsmPage}, message("There is no such HSM server", "It may have been removed by a commit."))
}

// Providers as the drop-down names them.
const (
	providerNone    = "none"
	providerNetwork = "safenet-network"
	providerModule  = "pkcs11"
)

var providers = []Choice{{providerNone, "None"}, {providerNetwork, "SafeNet Network HSM"}, {providerModule, "PKCS#11 module"}}

func providerLabel(value string) string {
	for _, p := range providers {
		if p.Value == value {
			return p.Label
		}
	}
	return "None"
}

func providerOf(settings tree) string {
	for _, p := range []string{providerNetwork, providerModule} {
		if settings.at("provider", p).there() {
			return p
		}
	}
	return providerNone
}

var clientVersions = []Choice{{"automatic", "Automatic"}, {"1", "Protocol version 1"}}

// providerDialog edits the provider. Servers are rows server-name-N and so on.
func providerDialog(v *visit, d hsmData, f *Form) (templ.Component, error) {
	if f == nil {
		f = blank("provider", providerOf(d.Settings), "client-version", d.Settings.or("automatic", "client-version"), seen, mark(d.Settings))
		network := d.Settings.at("provider", providerNetwork)
		servers := network.at("hsm-server").entries()
		for i, s := range servers {
			f.values.Set(row("server-name", i), s.name())
			f.values.Set(row("server-address", i), s.text("server-address"))
			f.values.Set(row("port", i), s.text("port"))
			f.values.Set(row("ssh-port", i), s.text("ssh-port"))
		}
		f.values.Set("servers", strconv.Itoa(len(servers)))
		if ha := network.at("ha"); ha.there() {
			f.values.Set("ha", "yes")
			f.values.Set("auto-recovery-retry", ha.or("0", "auto-recovery-retry"))
			f.values.Set("ha-group-name", ha.text("ha-group-name"))
		}
		module := d.Settings.at("provider", providerModule)
		f.values.Set("module", module.text("module"))
		f.values.Set("token-label", module.text("token"))
		f.values.Set("user-type", module.text("user-type"))
	}
	return providerForm(d, f, serverRows(f)), nil
}

// tokenUsers are as whom the gateway logs in to a token. The form's field of the
// token is token-label: a form's token is the session's.
var tokenUsers = []Choice{{"", "User"}, {"crypto-user", "Crypto User"}}

func row(name string, i int) string { return name + "-" + strconv.Itoa(i) }

// maxRows bounds the rows of a form; the configuration takes 16 servers, and
// says so of a 17th.
const maxRows = 32

func serverRows(f *Form) int {
	n, err := strconv.Atoi(f.Text("servers"))
	if err != nil {
		return 0
	}
	return max(0, min(n, maxRows))
}

// saveProvider is OK, or Add and Delete, which change the form alone.
func saveProvider(v *visit) error {
	f, n := v.form, serverRows(v.form)
	switch act := f.Text("act"); {
	case act == "add":
		f.values.Set("servers", strconv.Itoa(min(n+1, maxRows)))
		return v.showHSM(0, providerDialog, f)
	case strings.HasPrefix(act, "delete-"):
		at, err := strconv.Atoi(strings.TrimPrefix(act, "delete-"))
		if err != nil || at < 0 || at >= n {
			return v.showHSM(0, providerDialog, f)
		}
		for i := at; i < n-1; i++ {
			for _, name := range serverFields {
				f.values.Set(row(name, i), f.values.Get(row(name, i+1)))
			}
		}
		f.values.Set("servers", strconv.Itoa(n-1))
		return v.showHSM(0, providerDialog, f)
	}
	now, err := v.candidate(hsmPath)
	if err != nil {
		return err
	}
	f.Unchanged(now)
	settings := v.providerElement(f, n)
	if f.OK() {
		err := v.m().Change(v.ctx(), v.who(), replaceWith(hsmPath, settings))
		f.Take(err, providerErrors(f, n))
	}
	if !f.OK() {
		return v.showHSM(http.StatusUnprocessableEntity, providerDialog, f)
	}
	return v.done(hsmPage, "The provider was changed. Commit to use it.")
}

var serverFields = []string{"server-name", "server-address", "port", "ssh-port"}

const (
	maxModuleName = 31
	maxServers    = 16
	maxRetry      = 500
)

// providerElement makes hsm-settings of the form, and says beside the fields
// what the administrator's guide bounds.
func (v *visit) providerElement(f *Form, n int) *config.Node {
	settings := element("hsm-settings")
	add := func(c *config.Node) { settings.Children = append(settings.Children, c) }
	switch f.Text("provider") {
	case providerNetwork:
		list := element("hsm-server")
		var names []string
		for i := range n {
			name, address := f.Text(row("server-name", i)), f.Text(row("server-address", i))
			switch {
			case name == "":
				f.Fail(row("server-name", i), "this is needed: up to %d ASCII characters", maxModuleName)
			case len(name) > maxModuleName:
				f.Fail(row("server-name", i), "%q has %d characters, expected at most %d", name, len(name), maxModuleName)
			case slices.Contains(names, name):
				f.Fail(row("server-name", i), "%q is there twice", name)
			}
			if address == "" {
				f.Fail(row("server-address", i), "this is needed: an IPv4 or IPv6 address, or a host name")
			}
			names = append(names, name)
			list.Children = append(list.Children, namedEntry(name, leaf("server-address", address), leaf("port", f.Text(row("port", i))), leaf("ssh-port", f.Text(row("ssh-port", i)))))
		}
		if n == 0 {
			f.Fail("servers", "a network HSM needs a server: Add one")
		}
		if n > maxServers {
			f.Fail("servers", "%d servers, expected at most %d", n, maxServers)
		}
		network := element("safenet-network", list)
		if f.Checked("ha") {
			if n < 2 {
				f.Fail("ha", "a group of %d servers, expected 2 to %d: Add another, or turn High Availability off", n, maxServers)
			}
			if f.Text("auto-recovery-retry") == "" {
				f.values.Set("auto-recovery-retry", "0")
			}
			f.Number("auto-recovery-retry", 0, maxRetry)
			if name := f.Text("ha-group-name"); len(name) > maxModuleName {
				f.Fail("ha-group-name", "%q has %d characters, expected at most %d", name, len(name), maxModuleName)
			} else if name == "" {
				f.Fail("ha-group-name", "this is needed: up to %d ASCII characters", maxModuleName)
			}
			network.Children = append(network.Children, element("ha", leaf("auto-recovery-retry", f.Text("auto-recovery-retry")), leaf("ha-group-name", f.Text("ha-group-name"))))
		}
		add(element("provider", network))
	case providerModule:
		f.Needed("module")
		add(element("provider", element("pkcs11", leaf("module", f.Text("module")), leaf("token", f.Needed("token-label")), leaf("user-type", f.Text("user-type")))))
	default:
		add(element("provider", element("none")))
	}
	if version := f.Text("client-version"); version != "" && version != "automatic" {
		add(leaf("client-version", version))
	}
	return settings
}

// providerErrors says which field a path of the configuration is.
func providerErrors(f *Form, n int) map[string]string {
	fields := map[string]string{
		"/auto-recovery-retry": "auto-recovery-retry", "/ha-group-name": "ha-group-name", "/ha": "ha", "/pkcs11/module": "module", "/pkcs11/token": "token-label", "/pkcs11/user-type": "user-type",
		"/hsm-server": "servers", "/client-version": "client-version",
	}
	for i := range n {
		entry := "/" + config.EntryStep(f.Text(row("server-name", i)))
		fields[entry] = row("server-name", i)
		fields[entry+"/server-address"] = row("server-address", i)
		fields[entry+"/port"] = row("port", i)
		fields[entry+"/ssh-port"] = row("ssh-port", i)
	}
	return fields
}

func serverChoices(d hsmData) []Choice {
	var list []Choice
	for i := range d.Status.Servers {
		s := &d.Status.Servers[i]
		list = append(list, Choice{s.Name, fmt.Sprintf("%s (%s)", s.Name, s.Address)})
	}
	return list
}

// defaultHSMUser is the account of an HSM's administrator.
const defaultHSMUser = "admin"

// authenticateDialog is Setup Hardware Security Module: automatic, in two steps,
// the host key before the password; or manual.
func authenticateDialog(v *visit, d hsmData, f *Form) (templ.Component, error) {
	if f == nil {
		f = blank("server", v.r.URL.Query().Get("server"), "method", "automatic", "user", defaultHSMUser)
		if f.Text("server") == "" && d.HasServers {
			f.values.Set("server", d.Status.Servers[0].Name)
		}
	}
	return authenticateForm(d, f), nil
}

func authenticate(v *visit) error {
	f := v.form
	again := func(status int) error { return v.showHSM(status, authenticateDialog, f) }
	server := f.Text("server")
	if f.Text("act") == "export" {
		return v.redirect(hsmPage + "/client-certificate?server=" + url.QueryEscape(server))
	}
	if f.Text("method") == "manual" {
		content, _, err := v.file("server-certificate")
		if err != nil {
			return err
		}
		if content == nil {
			f.Fail("server-certificate", "choose the server.pem that you copied from the HSM")
			return again(http.StatusUnprocessableEntity)
		}
		done, err := v.m().HSMImportServerCertificate(v.ctx(), v.who(), server, content)
		if err != nil {
			f.Fail("server-certificate", "%s", words(err))
			return again(http.StatusUnprocessableEntity)
		}
		return v.done(hsmPage+"/authenticate?server="+url.QueryEscape(server), fmt.Sprintf("The certificate of HSM server %s is installed. SHA-256 fingerprint %s. Now export the client certificate and register it on the HSM.", server, done.Pin.Fingerprint))
	}
	// Automatic: the key that the administrator has seen is the one that counts.
	if f.Text("confirmed") == "" {
		key, err := v.m().HSMHostKey(v.ctx(), v.who(), server)
		if err != nil {
			f.Add(words(err))
			return again(http.StatusUnprocessableEntity)
		}
		f.values.Set("algorithm", key.Algorithm)
		f.values.Set("fingerprint", key.Fingerprint)
		f.values.Set("known", "")
		if f.Text("user") == "" { // it is asked for from now on
			f.values.Set("user", defaultHSMUser)
		}
		switch {
		case key.Known:
			f.values.Set("known", "yes")
		case key.Changed:
			f.values.Set("known", "changed")
		}
		return again(0)
	}
	r := hsmlink.AuthenticateRequest{
		Fingerprint: f.Text("fingerprint"), User: f.Text("user"), Password: f.Secret("password"), Register: f.Checked("register"),
		ClientName: f.Text("client-name"), Replace: f.Checked("replace"), Partition: f.Text("partition"), Officer: f.Secret("officer"),
	}
	defer clear(r.Password)
	defer clear(r.Officer)
	if len(r.Password) == 0 {
		f.Fail("password", "this is needed")
		return again(http.StatusUnprocessableEntity)
	}
	var steps []string
	err := v.m().HSMAuthenticate(v.ctx(), v.who(), server, r, func(s hsmlink.Step) {
		if s.Err == nil {
			steps = append(steps, s.Name+": "+s.Detail)
		}
	})
	if err != nil {
		if text := words(err); strings.Contains(text, "refused the password") {
			f.Fail("password", "%s", text)
		} else {
			f.Add(text)
		}
		return again(http.StatusUnprocessableEntity)
	}
	return v.done(hsmPage, fmt.Sprintf("Authenticated with HSM server %s.\n%s", server, strings.Join(steps, "\n")))
}

func exportClientCertificate(v *visit) error {
	file, err := v.m().HSMClientCertificate(v.ctx(), v.who(), v.r.URL.Query().Get("server"))
	if err != nil {
		return v.sorry(hsmPage, err)
	}
	return v.attach(file.Name, "application/x-pem-file", file.PEM)
}

// partitionDialog is Setup HSM Partition.
func partitionDialog(v *visit, d hsmData, f *Form) (templ.Component, error) {
	if f == nil {
		f = blank("role", "crypto-officer", "keep", "yes")
	}
	return partitionForm(d, f), nil
}

func setupPartition(v *visit) error {
	f := v.form
	r := hsmlink.LoginRequest{
		Server: f.Text("server"), Role: hsmlink.CryptoOfficer, Password: f.Secret("password"), Partition: f.Text("partition"),
		Keep: f.Checked("keep"), Beside: f.Checked("beside"),
	}
	defer clear(r.Password)
	if f.Text("role") == "crypto-user" {
		r.Role = hsmlink.CryptoUser
	}
	if len(r.Password) == 0 {
		f.Fail("password", "this is needed")
		return v.showHSM(http.StatusUnprocessableEntity, partitionDialog, f)
	}
	list, err := v.m().HSMLogin(v.ctx(), v.who(), r)
	if err != nil {
		f.Fail("password", "%s", words(err))
		return v.showHSM(http.StatusUnprocessableEntity, partitionDialog, f)
	}
	var said []string
	for _, s := range list {
		switch {
		case s.Err != nil:
			said = append(said, s.Server+": "+s.Err.Error())
		case s.Partition.Label == "": // what was done with the group
			said = append(said, s.Server+": "+s.Note)
		default:
			said = append(said, strings.TrimSpace(fmt.Sprintf("%s: authenticated to partition %s, serial number %s. %s", s.Server, s.Partition.Label, s.Partition.Serial, s.Note)))
		}
	}
	return v.done(hsmPage, strings.Join(said, "\n"))
}

// groupActs are the acts on the group, by the last step of their address.
var groupActs = map[string]struct {
	Title, Text string
}{
	"create":      {"Create HA Group", "The configured servers become one group: each holds every key, and calls go on while one of them is left."},
	"synchronize": {"Synchronize HA Group", "What a member lacks is copied to it from the others, sealed from HSM to HSM. Destroyed keys do not come back."},
	"replace":     {"Replace HSM Servers", "The group becomes the configured servers: those that it lacks are added and get every key, those that are gone are removed."},
}

func groupDialog(v *visit, d hsmData, f *Form) (templ.Component, error) {
	act := v.r.PathValue("act")
	if groupActs[act].Title == "" {
		return nil, &mgmt.Error{Code: mgmt.CodeNotFound, Lines: []string{fmt.Sprintf("There is no act %q on a group.", act)}}
	}
	if f == nil {
		f = blank()
	}
	return groupForm(d, f, act), nil
}

func actOnGroup(v *visit) error {
	f := v.form
	password := f.Secret("password")
	defer clear(password)
	start := v.m().HSMSynchronize
	switch v.r.PathValue("act") {
	case "create":
		start = v.m().HSMCreateGroup
	case "replace":
		start = v.m().HSMReplaceServers
	case "synchronize":
	default:
		return missing(v)
	}
	id, err := start(v.ctx(), v.who(), password)
	if err != nil {
		f.Add(words(err))
		return v.showHSM(http.StatusUnprocessableEntity, groupDialog, f)
	}
	job, err := v.m().WaitJob(v.ctx(), v.who(), id, nil)
	if err != nil {
		return err
	}
	said := strings.Join(job.Details, "\n")
	if job.Result != jobs.Succeeded {
		f.Add(said)
		return v.showHSM(http.StatusUnprocessableEntity, groupDialog, f)
	}
	return v.done(hsmPage, said)
}

func resetHSM(v *visit) error {
	if err := v.m().HSMReset(v.ctx(), v.who()); err != nil {
		return v.sorry(hsmPage, err)
	}
	return v.done(hsmPage, "The sessions with the HSM were reset.")
}

func renewClientCertificate(v *visit) error {
	next, err := v.m().HSMRenewClientCertificate(v.ctx(), v.who())
	if err != nil {
		return v.sorry(hsmPage, err)
	}
	return v.done(hsmPage, "The next client certificate is made: SHA-256 "+next.Fingerprint+". Export it and register it on each HSM under a second name; it is used from then on.")
}
