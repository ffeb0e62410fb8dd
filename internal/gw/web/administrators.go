package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// Device > Administrators.

const (
	administratorsPage = "/device/administrators"
	usersPath          = "/config/mgt-config/users"
)

func administratorRoutes() []route {
	return []route{
		{"GET " + administratorsPage, func(v *visit) error { return v.showAdministrators(0, nil) }},
		{"GET " + administratorsPage + "/add", func(v *visit) error { return v.administratorDialog(0, "", nil) }},
		{"POST " + administratorsPage + "/add", func(v *visit) error { return saveAdministrator(v, "") }},
		{"GET " + administratorsPage + "/edit/{name}", func(v *visit) error { return v.administratorDialog(0, v.r.PathValue("name"), nil) }},
		{"POST " + administratorsPage + "/edit/{name}", func(v *visit) error { return saveAdministrator(v, v.r.PathValue("name")) }},
		{"POST " + administratorsPage + "/delete/{name}", deleteAdministrator},
		{"POST " + administratorsPage + "/unlock/{name}", unlockAdministrator},
		{"GET " + administratorsPage + "/password", func(v *visit) error { return v.showAdministrators(0, passwordForm(v.s.token, blank())) }},
		{"POST " + administratorsPage + "/password", changeOwnPassword},
		{"POST " + administratorsPage + "/keys", makeAPIKey},
		{"POST " + administratorsPage + "/keys/revoke", revokeAPIKeys},
	}
}

type administrator struct {
	Name, Role string
	Password   bool
	Keys       bool
	Status     admin.Status
}

type administratorsData struct {
	List     []administrator
	Keys     []admin.APIKey // the caller's own
	LoggedIn []mgmt.LoggedIn
	May      bool
	Unlock   bool
	Me       string
	Token    string
	Now      time.Time
}

var roles = []Choice{{"superuser", "Superuser"}, {"deviceadmin", "Device administrator"}, {"superreader", "Superuser (read-only)"}}

func roleOf(e tree) string {
	for _, r := range roles {
		if e.at("permissions", "role-based", r.Value).there() {
			return r.Value
		}
	}
	return ""
}

func (v *visit) showAdministrators(status int, over templ.Component) error {
	d := administratorsData{May: v.may(admin.OpEditAdmins), Unlock: v.may(admin.OpUnlockAdmin), Me: v.who().Name, Token: v.s.token, Now: v.h.now()}
	users, err := v.candidate(usersPath)
	if err != nil {
		return err
	}
	for _, e := range users.entries() {
		a := administrator{Name: e.name(), Role: roleOf(e), Password: e.at("phash").there(), Keys: e.at("public-key").there()}
		if a.Status, err = v.m().LoginStatus(v.ctx(), v.who(), e.name()); err != nil {
			return err
		}
		d.List = append(d.List, a)
	}
	if d.Keys, err = v.m().APIKeys(v.ctx(), v.who(), ""); err != nil {
		return err
	}
	if d.LoggedIn, err = v.m().WhoIsLoggedIn(v.ctx(), v.who()); err != nil {
		return err
	}
	return v.page(Page{Title: "Administrators", Path: administratorsPage, Status: status}, administratorsView(d, over))
}

func (v *visit) administratorDialog(status int, name string, f *Form) error {
	if f == nil {
		f = blank("name", name, "role", "superreader")
		if name != "" {
			e, err := v.existing("administrator", usersPath, name)
			if err != nil {
				return err
			}
			f.values.Set(seen, mark(e))
			f.values.Set("role", roleOf(e))
			f.values.Set("public-key", e.text("public-key"))
		}
	}
	return v.showAdministrators(status, administratorForm(v.s.token, f, name))
}

func saveAdministrator(v *visit, name string) error {
	f := v.form
	now := name
	if name == "" {
		now = f.Needed("name")
	}
	role := f.Text("role")
	if !slices.ContainsFunc(roles, func(c Choice) bool { return c.Value == role }) {
		f.Fail("role", "got %q, expected a role of the list", role)
	}
	password, again := f.Secret("password"), f.Secret("confirm")
	defer clear(password)
	defer clear(again)
	if string(password) != string(again) {
		f.Fail("confirm", "it is not the same as the password")
	}
	path := usersPath + "/" + config.EntryStep(now)
	old, err := v.candidate(path)
	if err != nil {
		return err
	}
	switch {
	case name == "" && old.there():
		f.Fail("name", "there is an administrator of that name")
	case name != "" && !old.there():
		_, err := v.existing("administrator", usersPath, name)
		return err
	case name != "":
		f.Unchanged(old)
	}
	if f.OK() {
		entry := namedEntry(now, old.at("phash").node, leaf("public-key", f.Text("public-key")), element("permissions", element("role-based", leaf(role, "yes"))))
		edit := config.Edit{Op: config.OpEdit, Path: path, Elements: []*config.Node{entry}}
		if !old.there() {
			edit = config.Edit{Op: config.OpSet, Path: "/config/mgt-config", Elements: []*config.Node{element("users", entry)}}
		}
		f.Take(v.m().Change(v.ctx(), v.who(), edit), map[string]string{"/public-key": "public-key", "/" + config.EntryStep(now): "name"})
	}
	if f.OK() && len(password) > 0 {
		if err := v.m().SetPassword(v.ctx(), v.who(), now, password); err != nil {
			f.Fail("password", "%s", words(err))
		}
	}
	if !f.OK() {
		return v.administratorDialog(http.StatusUnprocessableEntity, name, f)
	}
	return v.done(administratorsPage, "Administrator "+now+" was saved. Commit to let it count.")
}

func deleteAdministrator(v *visit) error {
	name := v.r.PathValue("name")
	if err := v.m().Change(v.ctx(), v.who(), config.Edit{Op: config.OpDelete, Path: usersPath + "/" + config.EntryStep(name)}); err != nil {
		return v.sorry(administratorsPage, err)
	}
	return v.done(administratorsPage, "Administrator "+name+" was deleted. Commit to let it count.")
}

func unlockAdministrator(v *visit) error {
	name := v.r.PathValue("name")
	if err := v.m().UnlockAdministrator(v.ctx(), v.who(), name); err != nil {
		return v.sorry(administratorsPage, err)
	}
	return v.done(administratorsPage, "Administrator "+name+" may log in again.")
}

func changeOwnPassword(v *visit) error {
	f := v.form
	password, again := f.Secret("password"), f.Secret("confirm")
	defer clear(password)
	defer clear(again)
	if string(password) != string(again) {
		f.Fail("confirm", "it is not the same as the password")
	} else if err := v.m().SetPassword(v.ctx(), v.who(), v.who().Name, password); err != nil {
		f.Fail("password", "%s", words(err))
	}
	if !f.OK() {
		return v.showAdministrators(http.StatusUnprocessableEntity, passwordForm(v.s.token, f))
	}
	return v.done(administratorsPage, "Your password was changed. It counts from the next commit.")
}

func makeAPIKey(v *visit) error {
	key, err := v.m().KeyGen(v.ctx(), v.who())
	if err != nil {
		return v.sorry(administratorsPage, err)
	}
	return v.done(administratorsPage, "Your API key, which is shown this once: "+key)
}

func revokeAPIKeys(v *visit) error {
	n, err := v.m().RevokeAPIKeys(v.ctx(), v.who(), "")
	if err != nil {
		return v.sorry(administratorsPage, err)
	}
	return v.done(administratorsPage, fmt.Sprintf("%d API keys were revoked.", n))
}

func administratorAt(act, name string) string {
	return administratorsPage + "/" + act + "/" + url.PathEscape(name)
}
