package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
)

// Device > Setup > Management and Services.

const (
	managementPage = "/device/setup/management"
	servicesPage   = "/device/setup/services"
	settingPath    = config.DevicePath + "/deviceconfig/setting"
)

func setupRoutes() []route {
	return []route{
		{"GET " + managementPage, func(v *visit) error { return v.showManagement(0, false, nil) }},
		{"GET " + managementPage + "/edit", func(v *visit) error { return v.showManagement(0, true, nil) }},
		{"POST " + managementPage + "/edit", saveManagement},
		{"GET " + servicesPage, func(v *visit) error { return v.showServices(0, nil, nil) }},
		{"GET " + servicesPage + "/route", func(v *visit) error { return v.showServices(0, routeForm, nil) }},
		{"POST " + servicesPage + "/route", saveRoute},
	}
}

func (v *visit) showManagement(status int, edit bool, f *Form) error {
	groups, err := v.settingsAt(settingPath + "/management")
	if err != nil {
		return err
	}
	row, err := config.Lookup(settingPath + "/management")
	if err != nil {
		return err
	}
	now, err := v.candidate(settingPath + "/management")
	if err != nil {
		return err
	}
	system, err := v.candidate(systemPath)
	if err != nil {
		return err
	}
	shown := blank("hostname", system.or("moongate", "hostname"))
	fill(shown, groups, now, row)
	shown.values.Set(seen, mark(now, system.at("hostname")))
	if f == nil {
		f = shown
	}
	var over templ.Component
	if edit {
		over = managementForm(v.s.token, f, groups)
	}
	return v.page(Page{Title: "Management", Path: managementPage, Status: status}, managementView(shown, groups, v.may(admin.OpEditConfig), over))
}

func saveManagement(v *visit) error {
	groups, err := v.settingsAt(settingPath + "/management")
	if err != nil {
		return err
	}
	row, err := config.Lookup(settingPath + "/management")
	if err != nil {
		return err
	}
	old, err := v.candidate(settingPath + "/management")
	if err != nil {
		return err
	}
	f := v.form
	system, err := v.candidate(systemPath)
	if err != nil {
		return err
	}
	f.Unchanged(old, system.at("hostname"))
	if !f.OK() {
		return v.showManagement(http.StatusUnprocessableEntity, true, f)
	}
	edits := setEdits(settingPath, "management", build(f, "management", groups, row, old), old)
	edits = append(edits, config.Edit{Op: config.OpSet, Path: systemPath, Elements: []*config.Node{{Name: "hostname", Text: f.Text("hostname")}}})
	fields := settingErrors(groups)
	fields["/system/hostname"] = "hostname"
	f.Take(v.m().Change(v.ctx(), v.who(), edits...), fields)
	if !f.OK() {
		return v.showManagement(http.StatusUnprocessableEntity, true, f)
	}
	return v.done(managementPage, "The management settings were changed. Commit to use them.")
}

// servicesData is the service route of the HSM.
type servicesData struct {
	Interface, Address string
	Customized         bool
	May                bool
	Token              string
	Interfaces         []Choice
}

func (v *visit) showServices(status int, over func(servicesData, *Form) templ.Component, f *Form) error {
	now, err := v.candidate(hsmRoutePath)
	if err != nil {
		return err
	}
	d := servicesData{
		Interface: now.text("source", "interface"), Address: now.text("source", "address"), Customized: now.there(),
		May: v.may(admin.OpEditConfig), Token: v.s.token, Interfaces: interfaces(),
	}
	var dialog templ.Component
	if over != nil {
		if f == nil {
			customize := "no"
			if d.Customized {
				customize = "yes"
			}
			f = blank("customize", customize, "interface", d.Interface, "address", d.Address, seen, mark(now))
		}
		dialog = over(d, f)
	}
	return v.page(Page{Title: "Services", Path: servicesPage, Status: status}, servicesView(d, dialog))
}

func saveRoute(v *visit) error {
	f := v.form
	old, err := v.candidate(hsmRoutePath)
	if err != nil {
		return err
	}
	f.Unchanged(old)
	var edits []config.Edit
	if old.there() {
		edits = append(edits, config.Edit{Op: config.OpDelete, Path: hsmRoutePath})
	}
	if f.Text("customize") == "yes" {
		if f.Text("interface") == "" && f.Text("address") == "" {
			f.Fail("interface", "choose the Source Interface, or give the Source Address")
		}
		source := element("source", leaf("interface", f.Text("interface")), leaf("address", f.Text("address")))
		edits = append(edits, config.Edit{Op: config.OpSet, Path: systemPath, Elements: []*config.Node{
			element("route", element("service", namedEntry("hsm", source)))}})
	}
	if f.OK() && len(edits) > 0 {
		f.Take(v.m().Change(v.ctx(), v.who(), edits...), map[string]string{"/source/interface": "interface", "/source/address": "address"})
	}
	if !f.OK() {
		return v.showServices(http.StatusUnprocessableEntity, routeForm, f)
	}
	return v.done(servicesPage, "The service route was changed. Commit to use it.")
}

// interfaceChoice is what an interface is called in a list.
func interfaceChoice(name string, addresses []string) Choice {
	if len(addresses) == 0 {
		return Choice{name, name}
	}
	return Choice{name, name + " (" + strings.Join(addresses, ", ") + ")"}
}
