package web

import (
	"fmt"
	"net/http"
	"strconv"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/revision"
)

// Device > Configuration: versions, differences, load, export, import.

const configurationPage = "/device/configuration"

func configurationRoutes() []route {
	return []route{
		{"GET " + configurationPage, func(v *visit) error { return v.showConfiguration(0, blank()) }},
		{"POST " + configurationPage + "/load", loadVersion},
		{"POST " + configurationPage + "/import", importConfiguration},
		{"GET " + configurationPage + "/export", exportConfiguration},
	}
}

type configurationData struct {
	Versions  []revision.Version
	From, To  string
	Diff      string
	MoreLines int // that the difference has
	Asked     bool
	May       bool
	Token     string
	Form      *Form
}

func (v *visit) showConfiguration(status int, f *Form) error {
	q := v.r.URL.Query()
	d := configurationData{From: q.Get("from"), To: q.Get("to"), May: v.may(admin.OpLoadConfig), Token: v.s.token, Form: f}
	var err error
	if d.Versions, err = v.m().Versions(v.ctx(), v.who()); err != nil {
		return err
	}
	if d.Asked = q.Has("from"); d.Asked {
		text, err := v.m().DiffText(v.ctx(), v.who(), which(d.From), which(d.To))
		if err != nil {
			f.Add(words(err))
		}
		d.Diff, d.MoreLines = firstLines(text)
	}
	return v.page(Page{Title: "Configuration", Path: configurationPage, Status: status}, configurationView(d))
}

// which is the configuration that a field names: a version, running, candidate.
func which(text string) mgmt.Which {
	switch n, err := strconv.Atoi(text); {
	case err == nil:
		return mgmt.Version(n)
	case text == "candidate":
		return mgmt.Candidate
	}
	return mgmt.Running
}

func loadVersion(v *visit) error {
	n, err := strconv.Atoi(v.form.Text("version"))
	if err != nil {
		return missing(v)
	}
	if err := v.m().LoadVersion(v.ctx(), v.who(), n); err != nil {
		return v.sorry(configurationPage, err)
	}
	return v.done("/commit", fmt.Sprintf("Version %d is the candidate now. Commit to use it.", n))
}

func importConfiguration(v *visit) error {
	content, _, err := v.file("file")
	if err != nil {
		return err
	}
	if content == nil {
		v.form.Fail("file", "choose a configuration in XML")
	} else {
		v.form.Take(v.m().LoadConfig(v.ctx(), v.who(), content), nil)
	}
	if !v.form.OK() {
		return v.showConfiguration(http.StatusUnprocessableEntity, v.form)
	}
	return v.done("/commit", "The file is the candidate now. Commit to use it.")
}

func exportConfiguration(v *visit) error {
	name := v.r.URL.Query().Get("version")
	if n, err := strconv.Atoi(name); err == nil && n < 1 || err != nil && name != "running" && name != "candidate" {
		return missing(v)
	}
	data, err := v.m().ExportConfig(v.ctx(), v.who(), which(name))
	if err != nil {
		return v.sorry(configurationPage, err)
	}
	file := "running-config.xml"
	switch _, err := strconv.Atoi(name); {
	case err == nil:
		file = "config-" + name + ".xml"
	case name == "candidate":
		file = "candidate-config.xml"
	}
	return v.attach(file, "application/xml", data)
}
