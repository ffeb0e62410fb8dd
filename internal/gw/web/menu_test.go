package web

import "testing"

// TestMenu: every entry of the menu is a page.
func TestMenu(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.login("admin")
	var walk func([]entry)
	walk = func(list []entry) {
		for _, e := range list {
			if e.Path != "" {
				if res, body := c.get(e.Path); res.StatusCode != 200 {
					t.Errorf("%s at %s answers %d\n%s", e.Name, e.Path, res.StatusCode, body)
				}
			}
			walk(e.Below)
		}
	}
	for _, s := range menu {
		walk([]entry{{Name: s.Name, Path: s.Path}})
		walk(s.Entries)
	}
}
