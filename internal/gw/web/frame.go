package web

import (
	"moongate/internal/gw/admin"
)

// Frame is what surrounds every page.
type Frame struct {
	Page
	Host, User, Role, Version string
	Theme                     string // light, dark or ""
	Token                     string
	Section                   *section
	Entries                   []entry // of the section
	Notices                   []Notice
	Banners                   []Notice // what is degraded, and why
	MayCommit                 bool
}

func (v *visit) frame(p Page) Frame {
	f := Frame{
		Page: p, Host: v.m().Hostname(), User: v.who().Name, Role: string(v.who().Role), Version: v.h.version,
		Theme: themeOf(v.r), Token: v.s.token, Section: sectionOf(p.Path), Notices: v.s.takeNotices(),
		Banners: v.banners(), MayCommit: v.may(admin.OpCommit),
	}
	if f.Section != nil {
		f.Entries = shownTo(f.Section.Entries, v.who().Role)
	}
	return f
}

// banners name what is degraded, with its cause.
func (v *visit) banners() []Notice {
	var list []Notice
	if err := v.m().Trouble(); err != nil {
		list = append(list, Notice{"bad", "The running configuration is not in use: " + err.Error()})
	}
	if s := v.m().Snapshot(); s != nil && s.HSM != nil {
		if state, err := v.m().HSMState(v.ctx(), v.who()); err == nil && !state.Ready {
			list = append(list, Notice{"bad", "The HSM cannot be used: " + state.Cause})
		}
	}
	if v.m().VaultLocked() {
		list = append(list, Notice{"bad", "The master key is not unlocked: it is stored on the HSM, which cannot be asked yet. Secrets of the configuration cannot be used or changed."})
	}
	return list
}
