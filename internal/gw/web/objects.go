package web

import (
	"net/http"
	"net/url"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
)

// Objects > Decryption Profile.

const (
	profilesPage   = "/objects/decryption-profile"
	profilesPath   = config.VsysPath + "/profiles/decryption"
	profilesParent = config.VsysPath + "/profiles"
)

func objectRoutes() []route {
	return []route{
		{"GET " + profilesPage, func(v *visit) error { return v.showProfiles(0, nil) }},
		{"GET " + profilesPage + "/add", func(v *visit) error { return v.profileDialog(0, "", nil) }},
		{"POST " + profilesPage + "/add", func(v *visit) error { return saveProfile(v, "") }},
		{"GET " + profilesPage + "/edit/{name}", func(v *visit) error { return v.profileDialog(0, v.r.PathValue("name"), nil) }},
		{"POST " + profilesPage + "/edit/{name}", func(v *visit) error { return saveProfile(v, v.r.PathValue("name")) }},
		{"POST " + profilesPage + "/delete/{name}", deleteProfile},
	}
}

// profile is one as the list shows it.
type profile struct {
	Name, Versions, HSM string
	Blocks              []string
}

func (v *visit) showProfiles(status int, over templ.Component) error {
	list, err := v.candidate(profilesPath)
	if err != nil {
		return err
	}
	var out []profile
	for _, e := range list.entries() {
		p := profile{Name: e.name(), Versions: e.or("tls1-2", "ssl-protocol-settings", "min-version") + " to " + e.or("max", "ssl-protocol-settings", "max-version"), HSM: "block"}
		if e.text("ssl-forward-proxy", "block-if-hsm-unavailable") == "no" {
			p.HSM = "relay undecrypted"
		}
		for _, block := range []struct{ name, word string }{{"block-expired-certificate", "expired"}, {"block-untrusted-issuer", "untrusted"}, {"block-if-sni-mismatch", "name mismatch"}} {
			if e.text("ssl-forward-proxy", block.name) == "yes" {
				p.Blocks = append(p.Blocks, block.word)
			}
		}
		out = append(out, p)
	}
	return v.page(Page{Title: "Decryption Profile", Path: profilesPage, Status: status}, profilesView(out, v.may(admin.OpEditConfig), v.s.token, over))
}

func (v *visit) profileGroups() ([]settingGroup, config.Row, error) {
	row, err := config.Lookup(profilesPath + "/entry")
	if err != nil {
		return nil, row, err
	}
	groups, err := v.settingsAt(profilesPath + "/entry")
	return groups, row, err
}

func (v *visit) profileDialog(status int, name string, f *Form) error {
	groups, row, err := v.profileGroups()
	if err != nil {
		return err
	}
	if f == nil {
		f = blank("name", name)
		at := tree{}
		if name != "" {
			if at, err = v.existing("profile", profilesPath, name); err != nil {
				return err
			}
			f.values.Set(seen, mark(at))
		}
		fill(f, groups, at, row)
	}
	return v.showProfiles(status, profileForm(v.s.token, f, groups, name))
}

func saveProfile(v *visit, name string) error {
	groups, row, err := v.profileGroups()
	if err != nil {
		return err
	}
	f := v.form
	now := f.Needed("name")
	if name != "" {
		at, err := v.existing("profile", profilesPath, name)
		if err != nil {
			return err
		}
		f.Unchanged(at)
	}
	if f.OK() {
		entry := build(f, "entry", groups, row, tree{})
		entry.Entry = now
		var edits []config.Edit
		if name == "" {
			if there, err := v.candidate(profilesPath + "/" + config.EntryStep(now)); err == nil && there.there() {
				f.Fail("name", "there is a profile of that name")
			}
			edits = []config.Edit{{Op: config.OpSet, Path: profilesParent, Elements: []*config.Node{element("decryption", entry)}}}
		} else {
			if now != name {
				edits = append(edits, config.Edit{Op: config.OpRename, Path: profilesPath + "/" + config.EntryStep(name), NewName: now})
			}
			edits = append(edits, config.Edit{Op: config.OpEdit, Path: profilesPath + "/" + config.EntryStep(now), Elements: []*config.Node{entry}})
		}
		if f.OK() {
			fields := settingErrors(groups)
			fields["/"+config.EntryStep(now)] = "name"
			f.Take(v.m().Change(v.ctx(), v.who(), edits...), fields)
		}
	}
	if !f.OK() {
		return v.profileDialog(http.StatusUnprocessableEntity, name, f)
	}
	return v.done(profilesPage, "Profile "+now+" was saved. Commit to use it.")
}

func deleteProfile(v *visit) error {
	name := v.r.PathValue("name")
	if err := v.m().Change(v.ctx(), v.who(), config.Edit{Op: config.OpDelete, Path: profilesPath + "/" + config.EntryStep(name)}); err != nil {
		return v.sorry(profilesPage, err)
	}
	return v.done(profilesPage, "Profile "+name+" was deleted. Commit to be rid of it.")
}

func profileAt(act, name string) string { return profilesPage + "/" + act + "/" + url.PathEscape(name) }
