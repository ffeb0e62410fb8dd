package hsmlink

import (
	"cmp"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
)

// noteSource keeps which addresses connections leave from, and tells when they
// change.
func (l *Link) noteSource(plans []plan, from string) {
	if l.hsm.Source.IsZero() {
		return
	}
	next := SourceStatus{Interface: l.hsm.Source.Interface}
	for i := range plans {
		if a := plans[i].config.LocalAddress; a.IsValid() && next.Address == "" {
			next.Address, next.Dynamic = a.String(), isDynamic(a)
		}
		if p := plans[i].problem; p != nil && p.Code == CodeSource {
			next.Problem = &p.Problem
		}
	}
	l.mu.Lock()
	before := l.source
	l.source = next
	l.mu.Unlock()
	first := l.from == ""
	l.from = from
	if first && next.Problem == nil || before.Address == next.Address && codeOf(before.Problem) == codeOf(next.Problem) || !first && !l.m.isActive(l) {
		return
	}
	e := Event{Severity: High, ID: "hsm-source-address", Object: cmp.Or(next.Interface, next.Address)}
	switch {
	case next.Problem != nil:
		e.Severity, e.Text = Critical, "the source address of connections to the HSMs is gone: "+next.Problem.String()
	case before.Address == "":
		e.Severity, e.Text = Informational, "connections to the HSMs leave from "+next.Address+" again"
	default:
		e.Text = movedFrom(next.Address, before.Address)
	}
	l.m.event(e)
}

// watchRoute tells when the machine's routing has connections leave from another
// address than before, where no service route decides.
func (l *Link) watchRoute() {
	for _, mod := range l.modules {
		if _, isAddress := parseAddr(mod.server.Address); !isAddress {
			continue // looking a name up may take its time
		}
		from, err := seenFrom(l.ctx, config.HSMSource{}, mod.server.Address, mod.server.Port)
		if err != nil {
			return // no way there: the stage tcp says so
		}
		l.mu.Lock()
		before := l.source.Address
		if before != from.String() {
			l.source = SourceStatus{Address: from.String(), Dynamic: isDynamic(from)}
		}
		l.mu.Unlock()
		if before != "" && before != from.String() && l.m.isActive(l) {
			l.m.event(Event{Severity: High, ID: "hsm-source-address", Object: from.String(), Text: movedFrom(from.String(), before)})
		}
		return
	}
}

func movedFrom(now, before string) string {
	return fmt.Sprintf("connections to the HSMs leave from %s, before from %s: HSMs on which the gateway is registered for the old address refuse it", now, before)
}

// watchSource rebuilds when the machine's addresses have changed.
func (l *Link) watchSource() {
	if l.hsm.Provider != config.NetworkHSM {
		return
	}
	if l.hsm.Source.IsZero() {
		l.watchRoute()
		return
	}
	var now []string
	for _, mod := range l.modules {
		from, _ := source(l.hsm.Source, mod.server.Address)
		now = append(now, from.String())
	}
	l.building.Lock()
	changed := l.from != strings.Join(now, ",")
	l.building.Unlock()
	if changed {
		l.rebuild()
	}
}
