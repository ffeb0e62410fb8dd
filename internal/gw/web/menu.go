package web

import (
	"strings"

	"moongate/internal/gw/admin"
)

// section is a tab of the frame's top, with what is below it at the left.
type section struct {
	Name, Path string
	Entries    []entry
}

// entry is a page in the menu; one without a path is a heading.
type entry struct {
	Name, Path string
	Below      []entry
	Needs      admin.Operation // "" for everybody who has come in
}

// menu is the whole of it. Every path has a route; a test holds that.
var menu = []section{
	{Name: "Dashboard", Path: "/dashboard"},
	{Name: "Monitor", Path: "/monitor/decryption", Entries: []entry{
		{Name: "Logs", Below: []entry{
			{Name: "Decryption", Path: "/monitor/decryption"},
			{Name: "Traffic", Path: "/monitor/traffic"},
			{Name: "System", Path: "/monitor/system"},
			{Name: "Configuration", Path: "/monitor/config"},
		}},
		{Name: "Sessions", Path: "/monitor/sessions"},
		{Name: "Jobs", Path: "/monitor/jobs"},
	}},
	{Name: "Policies", Path: "/policies/decryption", Entries: []entry{
		{Name: "Decryption", Path: "/policies/decryption"},
		{Name: "What if", Path: "/policies/test"},
	}},
	{Name: "Objects", Path: "/objects/decryption-profile", Entries: []entry{
		{Name: "Decryption Profile", Path: "/objects/decryption-profile"},
	}},
	{Name: "Device", Path: "/device/setup/hsm", Entries: []entry{
		{Name: "Setup", Below: []entry{
			{Name: "Management", Path: "/device/setup/management"},
			{Name: "Services", Path: "/device/setup/services"},
			{Name: "HSM", Path: "/device/setup/hsm"},
		}},
		{Name: "Administrators", Path: "/device/administrators"},
		{Name: "Certificate Management", Below: []entry{
			{Name: "Certificates", Path: "/device/certificates"},
		}},
		{Name: "Master Key and Diagnostics", Path: "/device/master-key"},
		{Name: "Configuration", Path: "/device/configuration"},
	}},
}

// sectionOf is the tab that a path is below.
func sectionOf(path string) *section {
	first := func(p string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		return name
	}
	for i := range menu {
		if path != "" && first(menu[i].Path) == first(path) {
			return &menu[i]
		}
	}
	return nil
}

// shownTo are the entries that a role is shown.
func shownTo(list []entry, role admin.Role) []entry {
	var out []entry
	for _, e := range list {
		if e.Needs != "" && !role.May(e.Needs) {
			continue
		}
		if len(e.Below) > 0 {
			if e.Below = shownTo(e.Below, role); len(e.Below) == 0 {
				continue
			}
		}
		out = append(out, e)
	}
	return out
}
